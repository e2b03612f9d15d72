"""The manual and the README: the options are the parser's, and the examples run as they are printed."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import picture
import pytest
from conftest import PASS_PHRASE, PATIENCE_SECONDS, ROOT, UNSIGNED, Shell, need, only_if
from rehearsing import PASSWORD

from toktools import cli

if TYPE_CHECKING:
    from toktools.parser import Parser

# What the examples call; a page is not run where one of them is missing.
TOOLS = ("openssl", "base64", "jq", "parallel")
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
PAGES = sorted((ROOT / "man").iterdir())


def plain(mdoc: str) -> str:
    """The words of a line or more of mdoc, without macros and punctuation."""
    words = re.sub(r"^\.[A-Z][a-z]\b|\b(?:Ql|Ar|Pa|Xr|Fl)\b", " ", mdoc, flags=re.MULTILINE)
    return " ".join(re.findall(r"\w+", words)).lower()


def rendered(page: str, section: str) -> str:
    """A section as man(1) shows it, in one line."""
    need("mandoc")
    shown = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=200"], input=page, capture_output=True, text=True, check=True
    )
    text = re.sub(r".\x08", "", shown.stdout)
    return " ".join(re.split(r"^\S", text.split(f"\n{section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0].split())


def synopsis(parser: Parser) -> str:
    """The usage of a command as its page has it."""
    parts = [parser.prog]
    for action in parser.options:
        members, required = next(
            (group for group in parser.exclusive if action in group[0]), ([action], action.required)
        )
        if action is not members[0] or action.dest in {"help", "version"}:
            continue
        text = " | ".join(f"{each.option_strings[0]} {each.metavar or ''}".strip() for each in members)
        more = "..." if isinstance(action.default, list) and not action.type else ""
        parts.append((text if required else f"[{text}]") + more)
    operands = [f"[{action.metavar}...]" if action.nargs else str(action.metavar) for action in parser.operands]
    return " ".join([*parts, *operands])


@pytest.mark.parametrize("command", COMMANDS)
def test_page_and_help_agree(command: str) -> None:
    """The page has the purpose, the usage, and each option and operand of --help in the same words."""
    page = (ROOT / "man" / f"{command}.1").read_text()
    parser = cli.parser(command.removeprefix("tok-"))
    assert plain(page.split(".Nd", 1)[1].split("\n", 1)[0]) == plain(str(parser.description))
    assert rendered(page, "SYNOPSIS").replace("-- ", "") == synopsis(parser)
    described = {}
    for entry in page.split(".Sh DESCRIPTION", 1)[1].split(".Sh", 1)[0].split("\n.It ")[1:]:
        head, body = entry.split("\n", 1)
        described[plain(head)] = plain(body)
    for action in (*parser.operands, *parser.options):
        if action.nargs != argparse.REMAINDER:
            head = f"{' '.join(action.option_strings)} {action.metavar or ''}"
            assert described.pop(plain(head)).startswith(plain(str(action.help)))
    assert not described


def test_every_purpose_is_in_the_overview() -> None:
    """toktools(7) lists each command with the one line that its own page has."""
    overview = (ROOT / "man/toktools.7").read_text()
    for command in COMMANDS:
        purpose = (ROOT / "man" / f"{command}.1").read_text().split(".Nd ", 1)[1].split("\n", 1)[0]
        assert f".It Xr {command} 1\n{purpose}\n" in overview


def examples(page: Path) -> list[tuple[str, str]]:
    """The commands of a page's EXAMPLES, each with the output that is printed under it."""
    return commands_in(page.read_text().split(".Sh EXAMPLES", 1)[1].split("\n.Sh ", 1)[0])


def commands_in(mdoc: str) -> list[tuple[str, str]]:
    """The commands after a dollar in the displays of a piece of a page, each with the output under it."""
    found = []
    for block in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", mdoc, re.MULTILINE | re.DOTALL):
        found += [
            split_output(chunk) for chunk in re.split(r"^\$ ", block.replace("\\e", "\\"), flags=re.MULTILINE)[1:]
        ]
    return found


def split_output(chunk: str) -> tuple[str, str]:
    """Part a command from its output: the command goes on while lines are indented, a quote is open, or a loop is."""
    lines = chunk.splitlines(keepends=True)
    end = 1
    while end < len(lines) and (lines[end].startswith((" ", "done")) or "".join(lines[:end]).count("'") % 2):
        end += 1
    return "".join(lines[:end]), "".join(lines[end:])


@pytest.fixture
def desk(shell: Shell, keys: Path, enrolled: Path) -> Shell:
    """The directory that the pages speak of: AWS's unsigned file, and an officer's key, plain and encrypted."""
    need(*TOOLS)
    shutil.copy(UNSIGNED, shell.cwd / "unsigned-tokens.json")
    shutil.copy(ROOT / "examples" / "aws-quorum" / "user-management.token", shell.cwd / "admin.token")
    pairs = (
        ("pkcs8.pem", "admin2.key"),
        ("spki.pem", "admin2.pub"),
        ("other.pem", "admin3.key"),
        ("other.pub", "admin3.pub"),
    )
    for source, name in (
        *pairs,
        ("pkcs8.pem", "officer1.key"),
        ("pbes2.pem", "encrypted.key"),
        ("spki.pem", "officer1.pub"),
    ):
        shutil.copy(keys / source, shell.cwd / name)
    shell.write("passphrase", f"{PASS_PHRASE}\n".encode())
    shell.write("password", f"{PASSWORD}\n".encode())
    shutil.copy(enrolled, shell.cwd / "rehearsal.json")
    signatures = shell.run("tok-sign", "-k", "officer1.key", stdin=shell.run("tok-extract", "f.json").out).out
    shell.run("tok-merge", "-o", "signed-tokens.json", "f.json", stdin=signatures).check(0)
    return shell


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.parametrize(
    "command", ["mandoc -T utf8 -O width=80 -W warning", "groff -mandoc -T utf8 -P -c -w w -r LL=80n"]
)
def test_pages_fit_80_columns(page: Path, command: str) -> None:
    """No line of a page is wider than 80 columns, and neither mandoc nor groff, which man-db runs, warns."""
    program, *options = command.split()
    need(program)
    done = subprocess.run([program, *options, page], capture_output=True, check=True)
    lines = re.sub(".\b", "", done.stdout.decode()).splitlines()
    assert len(lines) > 20
    assert [line for line in lines if len(line) > 80] == []
    assert done.stderr == b""


# The recipes need signers; test_recipes.py has them.
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in {"tok-file.5", "tok-recipes.7"}],
    ids=lambda page: page.name,
)
def test_examples_of_a_page_run(page: Path, desk: Shell) -> None:
    """Each example of a page succeeds as printed, and prints what the page says."""
    found = examples(page)
    assert found
    for command, output in found:
        done = desk.sh(f"set -e -o pipefail\n{command}", shell="bash", env=desk.env).check(0)
        assert done.out.decode() == output, command


def test_configuration_runs(desk: Shell) -> None:
    """The functions and the Makefile that hold key, user and role sign as the page says."""
    need("make")
    page = (ROOT / "man" / "toktools.7").read_text().split(".Sh CONFIGURATION", 1)[1].split("\n.Sh ", 1)[0]
    functions, makefile = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", page, re.MULTILINE | re.DOTALL)
    functions, makefile = functions.replace("\\e", "\\"), makefile.replace("\\e", "\\")
    (desk.cwd / "keys").mkdir()
    for name in ("officer1.key", "officer1.pub"):
        shutil.copy(desk.cwd / name, desk.cwd / "keys" / name)
    shutil.copy(desk.cwd / "admin.token", desk.cwd / "-admin.token")
    environment = {**desk.env, "HOME": str(desk.cwd)}
    desk.sh(f"{functions}sign_login unsigned-tokens.json && approve -admin.token", env=environment).check(0)
    desk.run("tok-verify", "-p", "officer1.pub", "unsigned-tokens.json").check(0)
    desk.write("Makefile", makefile.encode())
    desk.run("make", "approved.token").check(0)
    desk.run("tok-verify", "-p", "officer1=officer1.pub", "--", "approved.token", "-admin.token").check(0)
    desk.run("make", "-B", "approved.token", "KEY=admin3.key").check(2, "not made by the given key")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_readme_pipeline_runs(desk: Shell) -> None:
    """The pipeline at the top of the README signs the file and verifies it."""
    done = desk.sh(f"set -e\n{blocks((ROOT / 'README.md').read_text())[1]}").check(0)
    assert done.out.decode() == "".join(f"unsigned-tokens.json: token {n}: OK\n" for n in (1, 2, 3))
    assert desk.read("unsigned-tokens.json") == desk.read("signed-tokens.json")


def test_picture_of_the_readme(shell: Shell) -> None:
    """The README's picture is what its first command shows today at the stand-in; "make picture" draws it anew."""
    need("openssl")
    shown = picture.record(shell.bin)
    assert picture.PICTURE.read_text() == picture.draw(shown)
    readme = (ROOT / "README.md").read_text()
    assert f"$ {blocks(readme)[0].strip()} \\" == shown[0]
    assert re.search(r"!\[[^]]{20,}\]\(docs/login\.svg\)", readme)


def test_readme_demo_runs(shell: Shell) -> None:
    """The first command of the README signs, verifies AWS's sample, and catches the broken copy."""
    need("make")
    (command,) = (line for line in blocks((ROOT / "README.md").read_text())[2].splitlines() if "demo" in line)
    home = Path(sys.prefix)
    made = (home / "ready").exists() or os.environ.get("CI")
    only_if(made, "these tests do not run in an environment that make has set up")
    environment = {**shell.env, "MAKEFLAGS": f"VENV={os.path.relpath(home, ROOT)}"}
    out = shell.sh(command, cwd=ROOT, env=environment).check(0).out.decode()
    assert out.count(": OK\n") == 3 + 3 + 2
    assert out.endswith("aws-cloudhsm > quit\n")
    assert "broken.json: token 1: FAILED" in out


def test_readme_makes_a_user_and_logs_in(shell: Shell) -> None:
    """The commands under "Try it", copied one after the other, end at the CLI's prompt after a login."""
    need("openssl")
    (shell.cwd / ".venv").symlink_to(shell.bin.parent)
    (commands,) = re.findall(r"^```bash\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    prompt, aws = "ready: ", "aws-cloudhsm > "
    environment = {
        **shell.env,
        "PS1": prompt,
        "TMPDIR": str(shell.cwd),
        "VIRTUAL_ENV_DISABLE_PROMPT": "1",
        "TERM": "dumb",
    }
    with pexpect.spawn("sh", cwd=shell.cwd, env=environment, timeout=PATIENCE_SECONDS, encoding="utf-8") as terminal:
        for command in commands.splitlines():
            terminal.expect_exact(prompt)
            terminal.sendline(command)
        terminal.expect_exact("Enter password for admin: ")
        terminal.sendline(PASSWORD)
        terminal.expect_exact(aws)
        terminal.sendline("user list")
        terminal.expect_exact('"mfa": [')
        terminal.expect_exact("token")
        terminal.expect_exact(aws)
        terminal.sendline("quit")
        terminal.expect_exact(prompt)


def test_readme_install_runs(shell: Shell, keys: Path) -> None:
    """The README's install command works; what it has installed is used, and goes."""
    need("make", "man")
    only_if(os.environ.get("CI"), "pip would fetch the libraries; that is for CI")
    command, *_ = (line.partition("#")[0] for line in blocks((ROOT / "README.md").read_text())[3].splitlines())
    assert command.startswith('make install PREFIX="$HOME/.local"')
    environment = {**shell.unmeasured, "MAKEFLAGS": f"PYTHON={sys.executable}", "HOME": str(shell.cwd)}
    shell.sh(command, cwd=ROOT, env=environment, timeout=300).check(0)
    found = {**environment, "PATH": f"{shell.cwd}/.local/bin{os.pathsep}{os.environ['PATH']}"}
    done = shell.sh("command -v tok-sign && tok-extract f.json | wc -l", env=found).check(0)
    assert (done.out.split()[1:], done.err) == ([b"3"], "")
    for name, section in (("tok-sign", "1"), ("toktools", "7")):
        path = shell.cwd / f".local/share/man/man{section}/{name}.{section}"
        found_page = shell.run("man", "-M", path.parent.parent, "-w", name).check(0).out.decode().strip()
        assert found_page == str(path.resolve())
    for name in ("bash-completion/completions/tok-sign", "zsh/site-functions/_tok-sign"):
        assert (shell.cwd / ".local/share" / name).exists()
    shutil.copy(keys / "pkcs8.pem", shell.cwd / "key.pem")
    assert len(shell.sh(f"echo {'A' * 43}= | tok-sign -k key.pem", env=found).check(0).out) == 345
    relative = os.path.relpath(shell.cwd / ".local", ROOT)
    shell.run("make", "uninstall", f"PREFIX={relative}", cwd=ROOT, env=environment).check(0)
    assert not [path for path in (shell.cwd / ".local").rglob("*") if not path.is_dir()]


def test_extras_of_make() -> None:
    """EXTRAS goes to install.sh without its brackets, and none is none."""
    need("make")
    for words, said in ((["EXTRAS=[kms,pkcs11]"], "--extras 'kms,pkcs11'"), ([], "--extras 'none'")):
        told = subprocess.run(["make", "-n", "install", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        assert said in told.stdout


@pytest.mark.parametrize(
    ("directory", "python", "said"),
    [
        ("a b", "python3", "the path of the checkout must not have a blank in it"),
        ("plain", "false", "false is no Python 3.9 or later with venv (on Debian and Ubuntu: python3-venv)"),
    ],
)
def test_demo_says_why_it_cannot_start(shell: Shell, directory: str, python: str, said: str) -> None:
    """Where pip's scripts could not start, or no environment can be made, make says so in a line, and makes nothing."""
    need("make")
    home = shell.cwd / directory
    home.mkdir()
    (home / "pyproject.toml").touch()
    done = shell.run("make", "-f", ROOT / "Makefile", "demo", f"PYTHON={python}", cwd=home).check(2, said)
    assert (done.out, done.err.count("\n")) == (b"", 2)  # the second is make's own
    assert [path.name for path in home.iterdir()] == ["pyproject.toml"]


def test_readme_names_targets_of_the_makefile() -> None:
    """Every make target of the README is there."""
    named = set(re.findall(r"\bmake ([a-z]+)", "".join(blocks((ROOT / "README.md").read_text()))))
    rules = re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {target for rule in rules for target in rule.split()}
    assert {"demo", "test", "install"} <= named <= targets


def test_links_of_the_manual_in_html(tmp_path: Path) -> None:
    """Every link of make html leads to a page that is there and, in it, to a place that is; every page is reached."""
    need("make", "mandoc")
    subprocess.run(["make", "-s", "html", f"HTML={tmp_path}"], cwd=ROOT, check=True)
    texts = {path.name: path.read_text() for path in tmp_path.glob("*.html")}
    assert set(texts) == {"index.html", *(f"{page.name}.html" for page in PAGES)}
    reached = set()
    for name, text in texts.items():
        assert text.rstrip().endswith("</html>")
        links = re.findall(r'href="([^"]*)"', text)
        assert links.count("manual.css") == 1
        for link in set(links) - {"manual.css"}:
            page, _, place = link.partition("#")
            assert page in {"", *texts}, f"{name}: {link}"
            assert not place or f'id="{place}"' in texts[page or name], f"{name}: {link}"
            reached.add(page)
    assert reached - {""} == set(texts) - {"index.html"}
    assert (tmp_path / "manual.css").stat().st_size

"""The rules of the house: who imports whom, one name for a command everywhere, one text for an option."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tarfile
import zipfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT, Shell, need

from toktools import completions
from toktools.options import COMMON, Operand, Option

if TYPE_CHECKING:
    from toktools.cli import Tool

# Imports go from a higher floor to a lower one, never along it.
FLOORS = {
    "toktools": 0,
    "toktools.errors": 0,
    "toktools.system": 0,
    "toktools.tokens": 0,
    "toktools.system.kernel": 0,
    "toktools.system.onscreen": 0,
    "toktools.system.signals": 0,
    "toktools.system.terminal": 1,
    "toktools.encoding": 1,
    "toktools.mistaken": 1,
    "toktools.tokens.usernames": 1,
    "toktools.system.files": 1,
    "toktools.tokens.jsontext": 1,
    "toktools.options": 1,
    "toktools.cli": 2,
    "toktools.login": 0,
    "toktools.login.screen": 1,
    "toktools.login.program": 3,
    "toktools.login.place": 4,
    "toktools.login.driver": 4,
    "toktools.login.dialogues": 8,
    "toktools.login.session": 9,
    "toktools.system.passphrases": 2,
    "toktools.keys.records": 2,
    "toktools.system.replacing": 2,
    "toktools.signatures": 2,
    "toktools.prompts": 0,
    "toktools.tokens.approvaldata": 2,
    "toktools.tokens.approvers": 3,
    "toktools.tokens.description": 3,
    "toktools.tokens.tokenfile": 2,
    "toktools.keys.pipeline": 3,
    "toktools.keys.der": 0,
    "toktools.keys.pbes": 1,
    "toktools.keys.signer": 3,
    "toktools.keys.forms": 3,
    "toktools.keys.command": 4,
    "toktools.keys.pkcs11": 4,
    "toktools.keys.allowed": 4,
    "toktools.keys.awskms": 5,
    "toktools.keys.openssh": 5,
    "toktools.keys.file": 6,
    "toktools.keys.public": 7,
    "toktools.tokens.owners": 8,
    "toktools.keys": 8,
    "toktools.tokens.merging": 9,
    "toktools.rehearsal": 2,
    "toktools.rehearsal.answers": 3,
    "toktools.rehearsal.syntax": 3,
    "toktools.rehearsal.console": 5,
    "toktools.rehearsal.software": 8,
    "toktools.rehearsal.members": 9,
    "toktools.rehearsal.quorum": 10,
    "toktools.rehearsal.keyring": 11,
    "toktools.rehearsal.mtls": 11,
    "toktools.rehearsal.cluster": 12,
    "toktools.rehearsal.state": 13,
    "toktools.rehearsal.dialogue": 14,
    "toktools.rehearsal.groups": 14,
    "toktools.rehearsal.groups.shared": 15,
    "toktools.rehearsal.groups.cluster": 16,
    "toktools.rehearsal.groups.crypto": 16,
    "toktools.rehearsal.groups.key": 16,
    "toktools.rehearsal.groups.login": 16,
    "toktools.rehearsal.groups.quorum": 16,
    "toktools.rehearsal.groups.user": 16,
    "toktools.rehearsal.commands": 17,
    "toktools.commands": 18,
    "toktools.__main__": 19,
    "toktools.completions": 19,
}
LIBRARIES = {
    "boto3": {"toktools.keys.awskms"},
    "botocore": {"toktools.keys.awskms"},
    "cryptography": {
        "toktools.keys.awskms",
        "toktools.keys.file",
        "toktools.keys.openssh",
        "toktools.keys.pbes",
        "toktools.keys.pkcs11",
        "toktools.keys.public",
        "toktools.rehearsal.software",
        "toktools.signatures",
    },
    "orjson": {"toktools.tokens.jsontext"},
    "pkcs11": {"toktools.keys.pkcs11"},
    "sqlite3": {"toktools.rehearsal.state"},
}

SOURCES = sorted((ROOT / "src" / "toktools").rglob("*.py"))
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
PAGES = sorted((ROOT / "man").iterdir())


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")


def floor_of(module: str) -> int:
    return FLOORS["toktools.commands"] if module.startswith("toktools.commands.") else FLOORS[module]


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; `from toktools import cli` is toktools.cli, and so on."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            rooms = {name for name in names if node.module == "toktools" or name in FLOORS}
            found |= rooms or {node.module}
    return {name.removesuffix(".__version__") for name in found}


def tool(command: str) -> Tool:
    found: Tool = importlib.import_module(f"toktools.commands.{command.removeprefix('tok-')}").TOOL
    return found


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


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_go_down(path: Path) -> None:
    """A module imports only from the floors below it; the heavy libraries have their own rooms."""
    module = module_of(path)
    for name in imports_of(path):
        package = name.partition(".")[0]
        if package == "toktools":
            assert floor_of(name) < floor_of(module), f"{module} imports {name}"
        assert module in LIBRARIES.get(package, {module}), f"{module} imports {name}"


def test_the_rehearsal_is_a_wing_of_its_own() -> None:
    """Nothing but its own command imports the stand-in."""
    users = {module_of(path) for path in SOURCES if any("toktools.rehearsal" in name for name in imports_of(path))}
    assert {name for name in users if not name.startswith("toktools.rehearsal")} == {"toktools.commands.rehearse"}


def test_sources_are_found() -> None:
    """The rules above are read off real files, on every floor."""
    assert {floor_of(module_of(path)) for path in SOURCES} == set(FLOORS.values())
    assert {module_of(path) for path in SOURCES} >= set(FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_only_commands_and_cli_speak(path: Path) -> None:
    """Only the commands and the cli print or exit."""
    if module_of(path).startswith(("toktools.cli", "toktools.commands", "toktools.__main__")):
        return
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not names & {"print", "exit", "SystemExit"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_options_and_a_few_lines(command: str) -> None:
    """A command's room is under 120 lines: what it does, but for the order of things, is in the rooms below."""
    room = ROOT / "src/toktools/commands" / f"{command.removeprefix('tok-')}.py"
    assert len(room.read_text().splitlines()) < 120


def test_stems_are_equal() -> None:
    """A command has one name: of its door plate, its room, its page and its end-to-end script."""
    assert COMMANDS
    rooms = sorted(f"tok-{path.stem}" for path in (ROOT / "src/toktools/commands").glob("[a-z]*.py"))
    scripts = sorted(path.stem for path in (ROOT / "tests/e2e").glob("tok-*.sh"))
    assert COMMANDS == rooms == scripts == [path.stem for path in PAGES if path.suffix == ".1"]


@pytest.mark.parametrize("command", COMMANDS)
def test_door_plate(command: str) -> None:
    """A door plate is the import of main and its call, whatever the command."""
    text = (ROOT / "bin" / command).read_text()
    other = COMMANDS[COMMANDS.index(command) - 1]
    assert (ROOT / "bin" / other).read_text() == text.replace(command, other).replace(
        f"commands.{command[4:]} ", f"commands.{other[4:]} "
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_page_and_help_agree(command: str) -> None:
    """The page has the purpose, the usage, and each option and operand of --help in the same words."""
    page = (ROOT / "man" / f"{command}.1").read_text()
    line = tool(command).command_line
    assert plain(page.split(".Nd", 1)[1].split("\n", 1)[0]) == plain(line.purpose)
    assert rendered(page, "SYNOPSIS") == line.usage
    described = {}
    for entry in page.split(".Sh DESCRIPTION", 1)[1].split(".Sh", 1)[0].split("\n.It ")[1:]:
        head, body = entry.split("\n", 1)
        described[plain(head)] = plain(body)
    rows: list[Option | Operand] = [*line.operands, *line.options, *COMMON]
    for row in rows:
        assert described.pop(plain(row.head)).startswith(plain(row.about))
    assert not described


def test_every_purpose_is_in_the_overview() -> None:
    """toktools(7) lists each command with the one line that its own page has."""
    overview = (ROOT / "man/toktools.7").read_text()
    for command in COMMANDS:
        purpose = (ROOT / "man" / f"{command}.1").read_text().split(".Nd ", 1)[1].split("\n", 1)[0]
        assert f".It Xr {command} 1\n{purpose}\n" in overview


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_clean(page: Path) -> None:
    """Mandoc has nothing to say against a page."""
    need("mandoc")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_one_helper_decides_what_is_there() -> None:
    """No test looks a program, a module or a file of the system up by itself, which CI might not hear of."""
    by_itself = re.compile(r"shutil\.which|find_spec|importorskip|pytest\.skip\b|command -v")
    tests = [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "e2e").iterdir()]
    found = {path.name for path in tests if by_itself.search(path.read_text())}
    assert found == {"conftest.py", "test_house.py", "test_manual.py"}


def test_wheel_has_commands_and_pages(wheel: Path) -> None:
    """The wheel carries every command, every page and every module, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.rpartition("/")[2] for name in names if "/scripts/" in name} == set(COMMANDS)
    pages = {name.rpartition("/share/man/")[2] for name in names if "/share/man/" in name}
    assert pages == {f"man{page.suffix[1:]}/{page.name}" for page in PAGES}
    modules = {name for name in names if name.startswith("toktools/")}
    assert modules == {str(path.relative_to(ROOT / "src")) for path in SOURCES} | {"toktools/py.typed"}
    others = [name for name in names if ".dist-info/" in name or name.rpartition("/share/")[2] in completions.files()]
    assert len(names) == len(COMMANDS) + len(pages) + len(modules) + len(others)


def test_sdist_builds_the_same_wheel(tmp_path: Path, wheel: Path) -> None:
    """The source distribution has what is needed to run the tests, and to build the wheel with the same contents."""
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run([*build, "-t", "sdist"], cwd=ROOT, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
        sdist.extraction_filter = getattr(tarfile, "data_filter", None)  # later releases want one
        sdist.extractall(tmp_path)
    subprocess.run([*build, "-t", "wheel"], cwd=tmp_path / archive.name.removesuffix(".tar.gz"), check=True)
    (again,) = tmp_path.glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()
    wanted = [
        "README.md",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "hatch_build.py",
        "examples/demo.sh",
        "tests/conftest.py",
    ]
    assert names >= {*wanted, *(f"bin/{command}" for command in COMMANDS), *(f"man/{page.name}" for page in PAGES)}
    assert not [name for name in names if name.startswith((".venv", "dist", ".coverage"))]


def test_installed_scripts_name_their_interpreter(installed: Path) -> None:
    """An installed command runs with the interpreter that it was installed for, whatever the path says."""
    for command in COMMANDS:
        first = (installed / command).read_text().split("\n", 1)[0]
        assert first == f"#!{installed / 'python'}"


def test_versions_agree(shell: Shell) -> None:
    """The changelog's newest release is the version that the commands and the RPM package tell."""
    newest = re.search(r"^## \[(\d.*?)\] - (.*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    spec = (ROOT / "packaging/rpm/toktools.spec").read_text()
    assert re.findall(r"^Version: *(.*)", spec, re.MULTILINE) == [newest[1]]
    assert f"* {date.fromisoformat(newest[2]):%a %b %d %Y} " in spec
    assert shell.run("tok-sign", "--version").out.decode() == f"tok-sign (toktools) {newest[1]}\n"

"""Completions: in real shells, what is offered after each option; and the wheel has what the tables of options give."""

from __future__ import annotations

import os
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from conftest import need

from toktools import commands, completions
from toktools.options import COMMON, CommandLine

TOOLS = commands.command_lines()
FILES = ("officer1.key", "officer1.pem", "officer1.pub", "notes.txt", "f.json", "my keys/")
PRIVATE = {"officer1.key", "officer1.pem", "my keys/"}
PUBLIC = {"officer1.pem", "officer1.pub", "my keys/"}
ALL = set(FILES)
SIGNERS = {"pkcs11:", "awskms:///"}
SHELLS = ("bash", "bash-completion", "zsh", "fish")

# After what stands on the line, just this is offered. What begins a word is part of what is offered.
OFFERED = [
    ("tok-sign -k ", PRIVATE | SIGNERS),
    ("tok-sign --key ", PRIVATE | SIGNERS),
    ("tok-login --username officer1 -k ", PRIVATE | SIGNERS),
    ("tok-enroll --username officer1 --old-key ", PRIVATE | SIGNERS),
    ("tok-sign -k p", {"pkcs11:"}),
    ("tok-sign -k a", {"awskms:///"}),
    ("tok-sign -k off", {"officer1.key", "officer1.pem"}),
    ("tok-sign -j 2 -k officer1.key --pass", {"--passin"}),
    ("tok-sign --passin e", {"env:"}),
    ("tok-sign --passin ", {"env:", "file:", "fd:"}),
    ("tok-sign --passin env:TOK_SEC", {"env:TOK_SECRET"}),
    ("tok-sign --passin file:not", {"file:notes.txt"}),
    ("tok-sign --key=officer1.k", {"--key=officer1.key"}),
    ("tok-verify -p ", PUBLIC),
    ("tok-verify -p admin2=officer1.pu", {"admin2=officer1.pub"}),
    ("tok-verify -p officer1.pub ", ALL),
    ("tok-verify -p officer1.pub f.json ", ALL),
    ("tok-extract f", {"f.json"}),
    ("tok-merge -u admin2 -R ", {"admin", "crypto-user"}),
    ("tok-merge --role cr", {"crypto-user"}),
    ("tok-merge -i f.json off", {"officer1.key", "officer1.pem", "officer1.pub"}),
    ("tok-merge --in", {"--in-place"}),
    ("tok-inspect --h", {"--hex", "--help"}),
    ("tok-rehearse inter", {"interactive"}),
    ("tok-rehearse --state ", ALL),
    ("tok-exec -p ", PUBLIC),
    ("tok-exec -- tok-sig", {"tok-sign"}),
]


@pytest.fixture(scope="session")
def share(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel puts into share/."""
    folder = tmp_path_factory.mktemp("wheel")
    zipfile.ZipFile(wheel).extractall(folder)
    (found,) = folder.glob("*.data/data/share")
    return found


class Prompt:
    """A shell that is asked what it offers at the end of a line, again and again."""

    def __init__(self, shell: str, share: Path, installed: Path, home: Path) -> None:
        self._shell = shell
        self._share = share
        self._env = {
            "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(home),
            "TERM": "dumb" if shell.startswith("bash") else "xterm",
            "LC_ALL": "C.UTF-8",
            "XDG_DATA_DIRS": str(share),
            "TOK_SECRET": "x",
        }
        # Keys, token files and a folder whose name has a blank.
        self._folder = home / "here"
        self._folder.mkdir()
        for name in FILES:
            (self._folder / name).mkdir() if name.endswith("/") else (self._folder / name).touch()
        self._terminal = None if shell == "fish" else self._start(home / "rc")

    def _start(self, rc: Path) -> pexpect.spawn[str]:
        if self._shell == "zsh":
            rc.write_text(
                f"fpath=('{self._share}/zsh/site-functions' $fpath)\n"
                "autoload -Uz compinit && compinit -u -D\n"
                "zle -C all-matches complete-word _generic\n"
                "bindkey '^Xa' all-matches\n"
                "zstyle ':completion:all-matches:*' completer _all_matches _complete\n"
                "zstyle ':completion:all-matches:*' insert yes\n"
            )
        else:
            completions_here = f"{self._share}/bash-completion"
            loads = (
                f". /usr/share/bash-completion/bash_completion\nBASH_COMPLETION_USER_DIR='{completions_here}'\n"
                if self._shell == "bash-completion"
                else f"for f in '{completions_here}'/completions/*; do . \"$f\"; done\n"
            )
            rc.write_text(f"{loads}bind 'set enable-bracketed-paste off'\nbind '\"\\C-xa\": insert-completions'\n")
        program = ["zsh", "-f", "-i"] if self._shell == "zsh" else ["bash", "--norc", "--noprofile", "-i"]
        terminal: pexpect.spawn[str] = pexpect.spawn(
            *(program[0], program[1:]),
            cwd=str(self._folder),
            env=self._env,
            encoding="utf-8",
            timeout=120,
            dimensions=(50, 500),
        )
        terminal.sendline(". ../rc; PS1='rea''dy> '; PS2=; echo 'rc:'$?")
        terminal.expect("rc:0\r\n")
        terminal.expect("ready> ")
        return terminal

    def offered(self, line: str) -> set[str]:
        """Return what the shell offers: bash and zsh insert all of it, and print the words of the line."""
        if self._terminal is None:
            path = f"set -p fish_complete_path '{self._share}/fish/vendor_completions.d'"
            words = ["fish", "--no-config", "-c", f"{path}; complete -C '{line}'"]
            done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=self._folder, env=self._env)
            assert not done.stderr
            return {found.split("\t")[0].replace("\\ ", " ") for found in done.stdout.splitlines()}
        self._terminal.send(f"{line}\x18a\x01printf '<%s>' \x05 '!'\r")
        self._terminal.expect(r"<tok-[^\r]*<!>")
        found = str(self._terminal.after)[1:-1].split("><")[:-1]
        self._terminal.expect("ready> ")
        return set(found[len(line.rsplit(" ", 1)[0].split()) :])

    def close(self) -> None:
        if self._terminal is not None:
            self._terminal.close(force=True)


@pytest.fixture(scope="module")
def prompts(
    share: Path, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Prompt]]:
    """The prompt of each shell, which is started once."""
    started: dict[str, Prompt] = {}

    def prompt(shell: str) -> Prompt:
        need(shell)
        need(shell.partition("-")[0])
        if shell not in started:
            started[shell] = Prompt(shell, share, installed, tmp_path_factory.mktemp(shell))
        return started[shell]

    yield prompt
    for each in started.values():
        each.close()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "wanted"), OFFERED, ids=[line for line, _ in OFFERED])
def test_offered(shell: str, line: str, wanted: set[str], prompts: Callable[[str], Prompt]) -> None:
    """What a shell offers is what the argument can be; zsh and fish add the end of a folder's name, bash as well."""
    found = {word.rstrip("/") for word in prompts(shell).offered(line)}
    assert found == {word.rstrip("/") for word in wanted}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("tool", TOOLS, ids=lambda line: line.name)
def test_every_option_is_offered(shell: str, tool: CommandLine, prompts: Callable[[str], Prompt]) -> None:
    """After two dashes there are all long options of the table."""
    long = {flag for option in (*tool.options, *COMMON) for flag in option.flags if flag.startswith("--")}
    found = {word.rstrip("=") for word in prompts(shell).offered(f"{tool.name} --")}
    assert found - {"--"} == long


def test_the_wheel_has_what_the_tables_give(share: Path) -> None:
    """The installed completions are what the tables of options give now, for every tool and shell."""
    made = completions.files()
    assert len(made) == 3 * len(TOOLS) > 0
    there = {
        str(path.relative_to(share)): path.read_text() for path in share.rglob("*tok-*") if "man" not in path.parts
    }
    assert {name: text for name, text in there.items() if not name.startswith("man/")} == made


@pytest.mark.parametrize("tool", TOOLS, ids=lambda line: line.name)
def test_every_argument_is_of_a_kind(tool: CommandLine) -> None:
    """The table says of every argument of an option, and of every operand, what kind of text it is."""
    for name in [
        *(option.argument for option in tool.options if option.argument),
        *(row.name for row in tool.operands),
    ]:
        assert name in completions.KINDS or f"{tool.name} {name}" in completions.KINDS


def test_no_kind_too_many() -> None:
    """Every row of the table is used."""
    used = {
        name
        for tool in TOOLS
        for argument in [*(option.argument for option in tool.options), *(row.name for row in tool.operands)]
        for name in (argument, f"{tool.name} {argument}")
    }
    assert set(completions.KINDS) <= used

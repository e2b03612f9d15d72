"""Completions: they are what shtab makes, and in real shells they offer options, files and known words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from conftest import ROOT, need

from toktools import cli

COMPLETIONS = ROOT / "completions"
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
FILES = {"officer1.key", "officer1.pub", "f.json", "my keys"}
SIGNERS = {"pkcs11:", "awskms:///"}
SHELLS = ("bash", "bash-completion", "zsh", "fish")

# After what stands on the line, just this is offered. What begins a word is part of what is offered.
OFFERED = [
    ("tok-sign -k ", FILES | SIGNERS),
    ("tok-login --username officer1 --key ", FILES | SIGNERS),
    ("tok-enroll --username officer1 --old-key ", FILES | SIGNERS),
    ("tok-sign -k p", {"pkcs11:"}),
    ("tok-sign -k off", {"officer1.key", "officer1.pub"}),
    ("tok-sign -j 2 -k officer1.key --pass", {"--passin"}),
    ("tok-sign --passin e", {"env:"}),
    ("tok-sign --passin ", {"env:", "file:", "fd:"}),
    ("tok-verify -p ", FILES | SIGNERS),
    ("tok-verify -p officer1.pub ", FILES),
    ("tok-extract f", {"f.json"}),
    ("tok-merge -u admin2 -R ", {"admin", "crypto-user"}),
    ("tok-merge --role cr", {"crypto-user"}),
    ("tok-merge -i f.json off", {"officer1.key", "officer1.pub"}),
    ("tok-merge --in", {"--in-place"}),
    ("tok-inspect --h", {"--hex", "--help"}),
    ("tok-rehearse --state ", FILES),
    ("tok-exec -p ", FILES | SIGNERS),
]


def test_they_are_what_shtab_makes(tmp_path: Path) -> None:
    """The committed files are made from the parsers; "make completions" makes them anew."""
    for shell in ("bash", "zsh", "fish"):
        (tmp_path / shell).mkdir()
    subprocess.run([sys.executable, ROOT / "packaging" / "completions.py", tmp_path], check=True)
    found, made = (
        {path.relative_to(home): path.read_text() for path in home.rglob("*tok-*")} for home in (COMPLETIONS, tmp_path)
    )
    assert len(made) == 3 * len(COMMANDS)
    assert found == made


class Prompt:
    """A shell that is asked what it offers at the end of a line, again and again."""

    def __init__(self, shell: str, home: Path) -> None:
        self._shell = shell
        self._env = {
            "PATH": f"{ROOT / 'bin'}{os.pathsep}{os.environ['PATH']}",  # fish completes what is there
            "HOME": str(home),
            "TERM": "dumb" if shell.startswith("bash") else "xterm",
            "LC_ALL": "C.UTF-8",
        }
        # Keys, a token file and a directory whose name has a blank.
        self._directory = home / "here"
        self._directory.mkdir()
        for name in FILES:
            (self._directory / name).mkdir() if " " in name else (self._directory / name).touch()
        self._terminal = None if shell == "fish" else self._start(home / "rc")

    def _start(self, rc: Path) -> pexpect.spawn[str]:
        if self._shell == "zsh":
            rc.write_text(
                f"fpath=('{COMPLETIONS}/zsh' $fpath)\n"
                "autoload -Uz compinit && compinit -u -D\n"
                "zle -C all-matches complete-word _generic\n"
                "bindkey '^Xa' all-matches\n"
                "zstyle ':completion:all-matches:*' completer _all_matches _complete\n"
                "zstyle ':completion:all-matches:*' insert yes\n"
            )
        else:
            loads = (
                "mkdir -p ~/share; ln -s '{}' ~/share/completions\n. /usr/share/bash-completion/bash_completion\n"
                "BASH_COMPLETION_USER_DIR=~/share\n"
                if self._shell == "bash-completion"
                else "for f in '{}'/*; do . \"$f\"; done\n"
            ).format(COMPLETIONS / "bash")
            rc.write_text(f"{loads}bind 'set enable-bracketed-paste off'\nbind '\"\\C-xa\": insert-completions'\n")
        program = ["zsh", "-f", "-i"] if self._shell == "zsh" else ["bash", "--norc", "--noprofile", "-i"]
        terminal: pexpect.spawn[str] = pexpect.spawn(
            *(program[0], program[1:]),
            cwd=str(self._directory),
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
            path = f"set -p fish_complete_path '{COMPLETIONS}/fish'"
            words = ["fish", "--no-config", "-c", f"{path}; complete -C '{line}'"]
            done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=self._directory, env=self._env)
            assert not done.stderr
            found = {row.split("\t")[0].replace("\\ ", " ") for row in done.stdout.splitlines()}
        else:
            self._terminal.send(f"{line}\x18a\x01printf '<%s>' \x05 '!'\r")
            self._terminal.expect(r"<tok-[^\r]*<!>")
            words = str(self._terminal.after)[1:-1].split("><")[:-1]
            self._terminal.expect("ready> ")
            found = set(words[len(line.rsplit(" ", 1)[0].split()) :])
        return {word if word in SIGNERS else word.rstrip("/") for word in found}

    def close(self) -> None:
        if self._terminal is not None:
            self._terminal.close(force=True)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Prompt]]:
    """The prompt of each shell, which is started once."""
    started: dict[str, Prompt] = {}

    def prompt(shell: str) -> Prompt:
        need(shell)
        need(shell.partition("-")[0])
        if shell not in started:
            started[shell] = Prompt(shell, tmp_path_factory.mktemp(shell))
        return started[shell]

    yield prompt
    for each in started.values():
        each.close()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("line", "wanted"), OFFERED, ids=[line for line, _ in OFFERED])
def test_offered(shell: str, line: str, wanted: set[str], prompts: Callable[[str], Prompt]) -> None:
    """What a shell offers is what the argument can be."""
    assert prompts(shell).offered(line) == wanted


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_offered(shell: str, command: str, prompts: Callable[[str], Prompt]) -> None:
    """After two dashes there are all long options of the parser."""
    parser = cli.parser(command.removeprefix("tok-"))
    assert prompts(shell).offered(f"{command} --") - {"--"} == {action.option_strings[-1] for action in parser.options}

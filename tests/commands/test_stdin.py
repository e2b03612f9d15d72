"""Standard input that is a terminal, or a pipe that nothing comes through: both are told."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest
from conftest import OFFICER1_PUB, UNSIGNED, Done, Shell


def typed(shell: Shell, text: bytes, *command: str | Path) -> Done:
    """Run a command whose standard input is a terminal at which a text is typed, and Ctrl-D."""
    screen, line = pty.openpty()
    try:
        os.write(screen, text + b"\x04")
        return shell.run(*command, stdin=line)
    finally:
        os.close(line)
        os.close(screen)


@pytest.mark.parametrize(
    ("command", "awaited"),
    [
        (["tok-extract"], "a token file"),
        (["tok-extract", "f.json", "-"], "a token file"),
        (["tok-inspect"], "a token file"),
        (["tok-verify", "-p", OFFICER1_PUB, "-"], "a token file"),
        (["tok-merge", "f.json"], "signatures"),
        (["tok-merge", "-", "1.sig"], "a token file"),
        (["tok-exec", "--", "true"], "digests"),
        (["tok-sign", "-k", "key.pem"], "digests"),
        (["tok-sign", "-r", "-k", "key.pem"], "32 raw bytes"),
    ],
    ids=str,
)
def test_typed(shell: Shell, keys: Path, command: list[str], awaited: str) -> None:
    """A person who started a filter without a pipe sees what it waits for."""
    shell.write("key.pem", (keys / "pkcs8.pem").read_bytes()).chmod(0o600)
    done = typed(shell, b"", *command).check(2)
    assert done.err.splitlines()[0] == f"{command[0]}: reading {awaited} from the terminal; Ctrl-D ends it"
    assert "wrote nothing" not in done.err


def test_what_is_typed_is_taken(shell: Shell) -> None:
    """What is typed is what would come through a pipe; where files are named, nothing is said of the terminal."""
    text = b"\n".join(line.strip() for line in UNSIGNED.read_bytes().splitlines()) + b"\n"
    done = typed(shell, text, "tok-extract").check(0)
    named = typed(shell, b"", "tok-extract", "f.json").check(0)
    assert (named.out, named.err) == (done.out, "")


def test_a_merge_after_a_command_that_failed(shell: Shell) -> None:
    """The silence of the command before is told first, and then the count."""
    done = shell.sh("false | tok-merge -i f.json").check(2)
    said = "the command before it wrote nothing: 3 tokens but 0 signatures; nothing written"
    assert done.err == f"tok-merge: f.json: {said}\n"
    assert shell.read("f.json") == UNSIGNED.read_bytes()
    done = shell.sh("tok-merge f.json </dev/null").check(2, "tok-merge: f.json: 3 tokens but 0 signatures")
    assert "wrote nothing" not in done.err
    assert "wrote nothing" not in shell.sh("head -n 2 x 2>&1 | tok-merge f.json").check(2).err


@pytest.mark.parametrize(
    "command",
    ["tok-extract", "tok-inspect", f"tok-verify -p '{OFFICER1_PUB}'", "tok-exec -- true", "tok-sign -k key.pem"],
)
def test_other_commands_after_one_that_failed(shell: Shell, keys: Path, command: str) -> None:
    """The other filters have it as a hint."""
    shell.write("key.pem", (keys / "pkcs8.pem").read_bytes()).chmod(0o600)
    done = shell.sh(f"false | {command}").check(2, "hint: the command before it wrote nothing")
    assert done.out == b""
    assert "wrote nothing" not in shell.sh(f"{command} </dev/null").check(2).err

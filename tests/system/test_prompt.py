"""Where a secret comes from, in this process: each source, its first line, and what is refused before and after."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from toktools.errors import ToktoolsError
from toktools.system import files, prompt
from toktools.system.prompt import Source

SOURCES = "a source is env:VAR, file:PATH or fd:N"


def fetched(source: str) -> bytes:
    return Source.parse("--passin", source).read("k", "pass phrase")


def refused(source: str) -> tuple[str, str]:
    """Return what a refusal says, and its hint."""
    with pytest.raises(ToktoolsError) as raised:
        fetched(source)
    return raised.value.message, raised.value.hint


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pass:secret", "every user of the machine can read a secret on the command line"),
        ("stdin", "a secret cannot come from standard input"),
        *(
            (source, "not a source of a secret")
            for source in ("", "secret", "env", "env:", "file:", "fd:", "fd:x", "fd:-1", "fd:\u0662", "fd:" + "1" * 10)
        ),
    ],
)
def test_what_is_no_source(source: str, said: str) -> None:
    """It is refused before anything is read, and never repeated."""
    with pytest.raises(ToktoolsError) as raised:
        Source.parse("--passin", source)
    assert (raised.value.message, raised.value.hint) == (f"--passin: {said}", SOURCES)
    Source.parse("--passin", "fd:" + "1" * 9)


def test_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone from the environment at once, and gives its secret as often as it is asked for."""
    monkeypatch.setenv("P", "secret")
    secret = Source.parse("--passin", "env:P")
    assert "P" not in os.environ
    secret.check("k", "pass phrase")
    assert [secret.read("k", "pass phrase") for _ in range(2)] == [b"secret"] * 2
    assert refused("env:NONE") == ("--passin: there is no such environment variable", "")
    with pytest.raises(ToktoolsError, match=r"^--passin: there is no such environment variable$"):
        Source.parse("--passin", "env:NONE").check("k", "pass phrase")


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"secret", b"secret"),
        (b"secret\nmore", b"secret"),
        (b"secret\r\nmore\n", b"secret"),
        (b" a\r b \n", b" a\r b "),
        (b"x" * 1023 + b"\n", b"x" * 1023),
        (b"x" * 1023 + b"\r\n", b"x" * 1023),
    ],
)
def test_the_first_line_of_a_file(tmp_path: Path, content: bytes, secret: bytes) -> None:
    """Without its end, and no more of the file."""
    (tmp_path / "f").write_bytes(content)
    assert fetched(f"file:{tmp_path}/f") == secret
    assert Source("PATH", "file", f"{tmp_path}/f").read("k", "PIN") == secret


@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((content, "k: the pass phrase is empty") for content in (b"", b"\n", b"\r\n", b"\nsecret")),
        *(
            (content, "k: the pass phrase is longer than 1023 bytes")
            for content in (b"x" * 1024, b"x" * 1024 + b"\n", b"x" * 9999)
        ),
    ],
)
def test_what_is_no_secret(tmp_path: Path, content: bytes, said: str) -> None:
    """An empty line, and one that is longer than OpenSSL takes, are refused with the key's name."""
    (tmp_path / "f").write_bytes(content)
    assert refused(f"file:{tmp_path}/f") == (said, "")


def test_a_descriptor(tmp_path: Path) -> None:
    """Each secret takes its line, and leaves the next to who reads then; one that is not open is refused by number."""
    longest = b"x" * prompt.MAX_BYTES
    (tmp_path / "f").write_bytes(b"no\n" + longest + b"\r\ntwo\n" + b"x" * 9999)
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        Source.parse("--passin", f"fd:{fd}").check("k", "pass phrase")
        assert [fetched(f"fd:{fd}") for _ in range(3)] == [b"no", longest, b"two"]
        before = os.lseek(fd, 0, os.SEEK_CUR)
        assert refused(f"fd:{fd}")[0] == "k: the pass phrase is longer than 1023 bytes"
        assert os.lseek(fd, 0, os.SEEK_CUR) == before + len(longest) + len("\r\n")
    finally:
        os.close(fd)
    assert refused(f"fd:{fd}")[0] == f"--passin: descriptor {fd}: bad file descriptor"
    with pytest.raises(ToktoolsError, match=rf"^--passin: descriptor {fd}: bad file descriptor$"):
        Source.parse("--passin", f"fd:{fd}").check("k", "pass phrase")


def test_standard_input_is_no_source(tmp_path: Path) -> None:
    """It has the records; that is told before anything begins."""
    (tmp_path / "f").write_bytes(b"x\n")
    saved, fd = os.dup(0), os.open(tmp_path / "f", os.O_RDONLY)
    os.dup2(fd, 0)
    try:
        with pytest.raises(ToktoolsError, match=r"^--passin: a secret cannot come from standard input$"):
            Source.parse("--passin", "fd:0").check("k", "pass phrase")
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(fd)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known before it is read; a pipe is not opened for that, and nothing is taken from a device."""
    for path, said in ((tmp_path / "none", "no such file or directory"), (tmp_path, "is a directory")):
        secret = Source.parse("--passin", f"file:{path}")
        for call in (secret.check, secret.read):
            with pytest.raises(ToktoolsError, match=rf"^--passin: {path}: {said}$"):
                call("k", "pass phrase")
    os.mkfifo(tmp_path / "pipe")
    Source.parse("--passin", f"file:{tmp_path}/pipe").check("k", "pass phrase")
    taken: list[int] = []
    monkeypatch.setattr(os, "read", lambda _fd, size: taken.append(size))
    Source.parse("--passin", "file:/dev/zero").check("k", "pass phrase")
    assert taken == []


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the digests: no source may name it, not even as a file."""
    (tmp_path / "f").write_bytes(b"secret")
    monkeypatch.setattr(files, "is_stdin", lambda status: stat.S_ISREG(status.st_mode))
    assert refused(f"file:{tmp_path}/f") == ("--passin: a secret cannot come from standard input", SOURCES)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Neither by the reading nor by the look before it."""
    (tmp_path / "f").write_bytes(b"secret")
    before = os.listdir("/dev/fd")
    Source.parse("--passin", f"file:{tmp_path}/f").check("k", "pass phrase")
    assert fetched(f"file:{tmp_path}/f") == b"secret"
    assert os.listdir("/dev/fd") == before


def test_who_can_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that others can read gets a warning; one that is not there, or a variable, gets none here."""
    said: list[str] = []
    (tmp_path / "f").write_bytes(b"secret")
    (tmp_path / "f").chmod(0o644)
    monkeypatch.setenv("P", "secret")
    for source in (f"file:{tmp_path}/f", f"file:{tmp_path}/none", "env:P"):
        Source.parse("--passin", source).warn_of_exposure(said.append)
    Source.ask("--passin").warn_of_exposure(said.append)
    assert said == [f"{tmp_path}/f: other users can read this secret (mode 0644; chmod 600 fixes it)"]


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
def test_a_byte_order_mark(tmp_path: Path, mark: bytes) -> None:
    """It would be a part of the secret, which then is wrong; the message names it, and the file."""
    (tmp_path / "f").write_bytes(mark + b"secret\n")
    said, hint = refused(f"file:{tmp_path}/f")
    assert said == f"--passin: {tmp_path}/f: a byte-order mark before the secret"
    assert hint == "save it as plain text, without one"


def test_who_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an option the person at the terminal is asked; if there is none, the option is named."""
    asked: list[str] = []

    def ask(question: str) -> bytes:
        asked.append(question)
        return b"secret\n"

    monkeypatch.setattr(prompt, "has_terminal", lambda: True)
    monkeypatch.setattr(prompt, "ask", ask)
    secret = Source.ask("--pin")
    secret.check("k", "PIN")
    assert asked == []
    assert secret.read("k", "PIN") == b"secret"
    assert asked == ["Enter PIN for k: "]
    monkeypatch.setattr(prompt, "has_terminal", lambda: False)
    for call in (secret.check, secret.read):
        with pytest.raises(ToktoolsError, match=r"^k: there is no terminal to ask for the PIN$") as raised:
            call("k", "PIN")
        assert raised.value.hint == f"use --pin; {SOURCES}"

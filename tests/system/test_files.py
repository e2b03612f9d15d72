"""Reading whole files and writing standard output, by themselves."""

from __future__ import annotations

import os
import pty
import signal
import socket
from pathlib import Path

import pytest

from toktools.errors import ToktoolsError
from toktools.system import files, process


def test_the_limit(tmp_path: Path) -> None:
    """A file of exactly the limit is read, one byte more is refused, and no descriptor stays open."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 200_000)
    before = os.listdir("/dev/fd")
    assert files.read(str(path), 200_000).content == path.read_bytes()
    with pytest.raises(ToktoolsError, match="larger than 199999 bytes"):
        files.read(str(path), 199_999)
    assert os.listdir("/dev/fd") == before


def test_raw_bytes_do_not_go_to_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are refused with a hint, and only there."""
    ours, its = pty.openpty()
    monkeypatch.setattr(files, "STDOUT", its)
    with pytest.raises(ToktoolsError, match=r"^standard output: raw bytes are not written to a terminal$") as raised:
        files.refuse_terminal()
    assert raised.value.hint == "redirect it to a file or a pipe"
    with (tmp_path / "f").open("wb") as file:
        monkeypatch.setattr(files, "STDOUT", file.fileno())
        files.refuse_terminal()
    os.close(ours)
    os.close(its)


def test_standard_input_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash is standard input; a file has its own path and name."""
    assert (files.STDIN, files.STDOUT) == (0, 1)
    (tmp_path / "f").write_bytes(b"x")
    path = str(tmp_path / "f")
    with open(path, "rb") as file:
        monkeypatch.setattr(files, "STDIN", file.fileno())
        seen = [files.read("-", 1), files.read(path, 1)]
        assert files.is_stdin(seen[1].status)
    assert [(one.path, one.name) for one in seen] == [(None, "standard input"), (path, path)]
    assert not files.is_stdin(seen[1].status)  # it is closed now


def test_why_nothing_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pipe, the command before it is to blame; of a device nobody is."""
    pipe, socket_, null = os.pipe(), socket.socketpair(), os.open(os.devnull, os.O_RDONLY)
    said = []
    for fd in (pipe[0], socket_[0].fileno(), null):
        monkeypatch.setattr(files, "STDIN", fd)
        said.append(files.why_empty())
    assert said == ["the command before it wrote nothing"] * 2 + [""]
    for fd in (*pipe, null):
        os.close(fd)
    for end in socket_:
        end.close()


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o600, []),
        (0o711, []),
        (0o640, ["f: other users can read this key (mode 0640; chmod 600 fixes it)"]),
        (0o604, ["f: other users can read this key (mode 0604; chmod 600 fixes it)"]),
        (0o620, ["f: other users can write this key (mode 0620; chmod 600 fixes it)"]),
        (0o606, ["f: other users can read and write this key (mode 0606; chmod 600 fixes it)"]),
    ],
)
def test_exposure(tmp_path: Path, mode: int, said: list[str]) -> None:
    """A secret that others can read or write gets a warning, one that is its owner's alone none."""
    (tmp_path / "f").touch()
    (tmp_path / "f").chmod(mode)
    told: list[str] = []
    files.warn_of_exposure("f", (tmp_path / "f").stat(), "key", told.append)
    files.warn_of_exposure("null", os.stat(os.devnull), "key", told.append)
    assert told == said


def test_only_regular_files_change_in_place(tmp_path: Path) -> None:
    """A directory or a device does not, and what is not there is named."""
    (tmp_path / "f").touch()
    files.refuse_irregular(str(tmp_path / "f"))
    for path in (str(tmp_path), os.devnull):
        with pytest.raises(ToktoolsError, match=f"^{path}: not a regular file$"):
            files.refuse_irregular(path)
    with pytest.raises(ToktoolsError, match=r"g: no such file or directory$"):
        files.refuse_irregular(str(tmp_path / "g"))


def test_all_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many pieces as the system takes; where it takes none, that is trouble with its place."""
    write, taken = os.write, []

    def some(fd: int, content: memoryview) -> int:
        taken.append(bytes(content[:3]))
        return write(fd, content[:3])

    out, into = os.pipe()
    monkeypatch.setattr(files, "STDOUT", into)
    monkeypatch.setattr(os, "write", some)
    files.write_stdout(b"12345678")
    assert (taken, os.read(out, 9)) == ([b"123", b"456", b"78"], b"12345678")
    monkeypatch.undo()
    os.close(into)
    monkeypatch.setattr(files, "STDOUT", into)
    with pytest.raises(ToktoolsError, match=r"^standard output: bad file descriptor$"):
        files.write_stdout(b"1")
    with pytest.raises(ToktoolsError, match=r"^standard output: bad file descriptor$"):
        files.close_stdout()
    os.close(out)


def test_a_reader_that_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only of standard output it is an end by the signal; elsewhere it is trouble."""
    out, into = os.pipe()
    os.close(out)
    monkeypatch.setattr(files, "STDOUT", into)
    with pytest.raises(process.Terminated) as raised:
        files.write_stdout(b"x")
    assert raised.value.number == signal.SIGPIPE
    with pytest.raises(BrokenPipeError):
        files.write(into, b"x")
    os.close(into)


def test_standard_input_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, after some bytes too, and what came is not taken for the whole."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    monkeypatch.setattr(files, "STDIN", reader)
    for content in (b"", b"the beginning"):
        os.write(writer, content)
        with pytest.raises(ToktoolsError, match=r"^standard input: resource temporarily unavailable$"):
            files.read(None, 100)
    os.close(reader)
    os.close(writer)

"""Reading whole files and writing standard output, by themselves."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from toktools import files
from toktools.errors import ToktoolsError


def test_the_limit(tmp_path: Path) -> None:
    """A file of exactly the limit is read, one byte more is refused, and no descriptor stays open."""
    path = tmp_path / "f"
    path.write_bytes(b"x" * 200_000)
    before = os.listdir("/dev/fd")
    assert files.read(str(path), 200_000).content == path.read_bytes()
    with pytest.raises(ToktoolsError, match="larger than 199999 bytes"):
        files.read(str(path), 199_999)
    assert os.listdir("/dev/fd") == before


def test_standard_input_stays_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor is the caller's."""
    (tmp_path / "f").write_bytes(b"digest")
    with (tmp_path / "f").open("rb") as file:
        monkeypatch.setattr(files, "STDIN", file.fileno())
        assert files.read("-", 100).content == b"digest"
        os.fstat(file.fileno())


def test_chunks_take_no_more_than_they_may(tmp_path: Path) -> None:
    """What is behind the limit stays for the next reader."""
    (tmp_path / "f").write_bytes(b"x" * 150_000)
    with (tmp_path / "f").open("rb", buffering=0) as file:
        assert [len(chunk) for chunk in files.chunks(file.fileno(), 100_000)] == [1 << 16, 100_000 - (1 << 16)]
        assert list(files.chunks(file.fileno(), 0)) == []
        assert len(file.read()) == 50_000


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(5, "Input/output error"), "f: input/output error"), (OSError("Odd"), "f: odd"), (OSError(), "f: ")],
)
def test_what_the_system_refuses(error: OSError, said: str) -> None:
    """Place and reason, whether the system gave a number with it or not."""
    with pytest.raises(ToktoolsError) as raised, files.trouble_at("f"):
        raise error
    assert raised.value.message == said


def test_an_empty_name_is_shown() -> None:
    """A message names every file, and standard input."""
    assert [files.display(path) for path in ("", None, "a\nb")] == ["''", "standard input", r"a\nb"]


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

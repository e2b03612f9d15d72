"""Where the CLI runs: here, and on a host behind an ssh that runs everything on this machine."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import alive, wait_until

from toktools.errors import ToktoolsError
from toktools.login import place

SSH = r"""#!/bin/sh
printf '%s\n' "$*" >> log
echo $$ > pid
case " $* " in *" -O exit "*) exit ;; esac
for last; do :; done
echo Welcome
SAY
exec /bin/sh -c "$last"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in, where temporary files of both sides are; no descriptor stays open."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = os.listdir("/dev/fd")
    yield tmp_path
    assert os.listdir("/dev/fd") == before


def host(say: str = "", patience: float = 60.0) -> place.There:
    """A host whose ssh says something, or does, before it runs what it should."""
    Path("ssh").write_text(SSH.replace("SAY", say))
    Path("ssh").chmod(0o700)
    return place.There(["./ssh", "-4"], "u@h", patience)


def reached(say: str = "", patience: float = 60.0) -> place.There:
    there = host(say, patience)
    there.reach()
    return there


def log() -> list[str]:
    lines = Path("log").read_text().splitlines()
    return [line for line in lines if line.startswith("-4 ")]


def refused(call: Callable[[], object]) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        call()
    return raised.value


def test_here(here: Path) -> None:
    """A file is its own copy, in a private folder that goes with the end; the CLI is started as it is."""
    where = place.Here()
    where.reach()
    file = where.file("f.json")
    assert file.local == file.path
    file.write(b"longer text")
    file.write(b"text")
    file.fetch()
    assert Path(file.path).read_bytes() == b"text"
    assert stat.S_IMODE(Path(file.path).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(file.path).parent.stat().st_mode) == 0o700
    assert where.argv(("cli", "a b")) == ["cli", "a b"]
    where.clear()
    where.close()
    assert list((here / "tmp").iterdir()) == []


def test_no_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TMPDIR is not there, no other folder is taken for the file of a login."""
    monkeypatch.setenv("TMPDIR", str(here / "none"))
    assert refused(place.Here).message == "a folder for the token file, in TMPDIR or /tmp: no such file or directory"


@pytest.mark.parametrize("name", ["a b", "a;b", "\u00e4"])
def test_a_folder_that_a_cli_may_misread(here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It is refused on both sides, with what to do about it, and none is left."""
    (here / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(here / name))
    monkeypatch.setattr("tempfile.tempdir", None)
    where = place.Here()
    error = refused(lambda: where.argv(["cli"]))
    assert error.message.endswith(": the CLI may misread this name")
    assert error.hint == "set TMPDIR to a folder with a plain name: letters, digits, '.', '_' and '-'"
    where.close()
    there = host()
    error = refused(there.reach)
    assert error.message.startswith("u@h: ")
    assert error.message.endswith(": the CLI may misread this name")
    assert error.hint.startswith("set TMPDIR there to a folder")
    there.close()
    assert list((here / name).iterdir()) == []


def test_files_there(here: Path) -> None:
    """They are copied over the connection, whatever a login shell says first, and are in a private folder."""
    there = reached()
    file = there.file("f.json")
    assert file.local != file.path
    assert Path(file.path).parent.parent == here / "tmp"
    assert stat.S_IMODE(Path(file.path).parent.stat().st_mode) == 0o700
    assert refused(file.fetch).message == f"{file.path}: no such file or directory"
    assert not Path(file.local).exists()
    file.write(b"a\0\ntoktools:")
    assert Path(file.path).read_bytes() == Path(file.local).read_bytes() == b"a\0\ntoktools:"
    Path(file.path).write_bytes(b"toktools:b")
    file.fetch()
    assert Path(file.local).read_bytes() == b"toktools:b"
    Path(file.local).write_bytes(b"c")
    file.send()
    assert Path(file.path).read_bytes() == b"c"
    there.clear()
    assert list((here / "tmp").iterdir()) == []
    runs = len(log())
    there.clear()  # once more does no harm, and asks nobody
    assert len(log()) == runs
    there.close()


def test_one_connection(here: Path) -> None:
    """The first command makes it, the others use it, the last takes its folder away, and then it ends."""
    there = reached()
    there.file("f").write(b"")
    there.close()
    first, *others, removal, end = [line.split(" exec sh -c ")[0] for line in log()]
    socket = first.split("ControlPath=")[1].split()[0]
    way = f"-4 -o ControlPath={socket}"
    assert socket.startswith("/tmp/toktools-")
    assert not Path(socket).parent.exists()
    assert first == f"{way} -o ControlMaster=yes -o ControlPersist=10 -T -- u@h"
    assert others == [f"{way} -o ControlMaster=no -T -- u@h"] * 2
    assert removal == f"{way} -o BatchMode=yes -T -- u@h"
    assert end == f"{way} -O exit -- u@h"
    assert list((here / "tmp").iterdir()) == []


def test_the_cli_there(here: Path) -> None:
    """It has a terminal there, takes its words as they are, and when it ends, however, the folder goes."""
    there = reached()
    folder = Path(there.file("f").path).parent
    argv = there.argv(["sh", "-c", 'test -d "$0" && echo "$0" > said', str(folder)])
    assert argv[:2] == ["./ssh", "-4"]
    assert argv[4:-1] == ["-o", "ControlMaster=no", "-tt", "--", "u@h"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    assert (here / "said").read_text() == f"{folder}\n"
    wait_until(lambda: not folder.exists())
    there.close()


@pytest.mark.parametrize(
    ("say", "said"),
    [
        ("exit 255", "u@h: ssh failed"),
        ("exit 254", "u@h: exit status 254"),
        ("kill -KILL $$", "u@h: killed by signal 9 (Killed)"),
        ("exit 0", "u@h: cannot create a folder there with mktemp -d"),
        ("case $last in *mktemp*) exit 1 ;; esac", "u@h: exit status 1"),
    ],
)
def test_trouble_there(say: str, said: str) -> None:
    """The host is named; nothing is left."""
    there = host(say)
    assert refused(there.reach).message == said
    there.close()


def test_no_ssh() -> None:
    """It is named, with the option."""
    there = place.There(["./none"], "h", 60.0)
    error = refused(there.reach)
    assert (error.message, error.hint) == ("./none: not found, or not executable", "name it with --ssh")
    there.close()


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_patience(monkeypatch: pytest.MonkeyPatch, trap: str) -> None:
    """A host that does not answer is given up, but not while the first connection is made; its ssh is ended."""
    monkeypatch.setattr(place, "_KINDLY", 0.1)
    there = host(
        "case $last in *'sh -c :'*) sleep 0.5 ;; *) TRAP while :; do sleep 0.1; done ;; esac".replace("TRAP", trap)
    )
    there.patience = 0.25
    assert refused(there.reach).message == "u@h: no answer in 0.25 seconds"
    assert not alive(int(Path("pid").read_text()))
    there.close()


def test_a_connection_that_is_lost(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The folder there cannot be removed then, and neither is anybody told twice nor is it waited for long."""
    monkeypatch.setattr(place, "_PATIENCE", 0.2)
    there = reached()
    host("exit 255").close()
    Path("ssh").write_text("#!/bin/sh\ncase $* in *exit*) echo no such connection >&2 ;; esac\nexit 255\n")
    there.close()
    assert capfd.readouterr() == ("", "")
    there = reached()
    Path("ssh").write_text("#!/bin/sh\necho $$ > pid\nexec sleep 600\n")
    there.close()
    assert not alive(int(Path("pid").read_text()))
    Path("ssh").unlink()
    assert all(path.name.startswith("tmp.") for path in (here / "tmp").iterdir())

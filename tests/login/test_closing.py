"""What a login has opened is closed, whatever comes in between, and an error on the way is told as one."""

from __future__ import annotations

import os
import shutil
import signal
from argparse import Namespace
from typing import TYPE_CHECKING

import pytest
from conftest import alive, wait_until
from rehearsing import PASSWORD

from toktools.cli import Console
from toktools.errors import ToktoolsError
from toktools.keys.signer import Signer
from toktools.login import options
from toktools.login.host import LocalHost, SshHost
from toktools.system import process
from toktools.system.prompt import Source

if TYPE_CHECKING:
    from pathlib import Path

CONSOLE = Console("login")


class Interrupted(Signer):
    """A signer that gets a signal while it is closed for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[bool] = []

    def close(self) -> None:
        self.held.append(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        if len(self.held) == 1:
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_while_all_is_closed(tmp_path: Path) -> None:
    """All is closed all the same, and a second signal is not held up."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    pid = tmp_path / "pid"
    files = tmp_path / "files"
    files.mkdir()
    values = Namespace(
        username="officer1",
        role="admin",
        password=Source.parse("--password", f"file:{secret}"),
        cli=["/bin/sh", "-c", f"echo $$ >{pid}; exec sleep 300"],
        cluster_id=None,
        host=None,
        token_dir=str(files),
        timeout=60.0,
        record=None,
    )
    signer = Interrupted()

    def start() -> None:
        with options.started(values, [signer], CONSOLE):
            assert list(files.iterdir())
            wait_until(lambda: pid.exists() and pid.read_text().endswith("\n"))

    before = os.listdir("/dev/fd")
    with pytest.raises(process.Terminated):
        start()
    assert signer.held == [False, False]
    assert not alive(int(pid.read_text()))
    assert list(files.iterdir()) == []
    assert os.listdir("/dev/fd") == before


def test_a_signal_while_the_directory_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is removed in the end."""
    host = LocalHost(str(tmp_path), CONSOLE)
    host.open()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: signal.default_int_handler(signal.SIGINT, None))
        with pytest.raises(KeyboardInterrupt):
            host.clear()
    host.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """It is named, with what the system says."""
    host = LocalHost(str(tmp_path), CONSOLE)
    host.open()
    (directory,) = tmp_path.iterdir()
    directory.rmdir()
    with pytest.raises(ToktoolsError, match=f"^{directory}/new-key.pub: no such file or directory$"):
        host.write("new-key.pub", b"key")


def ssh_host(*ssh: str) -> SshHost:
    return SshHost("hsm", ssh, None, CONSOLE, 60.0)


def test_an_ssh_that_cannot_be_started() -> None:
    """It is not called missing if it is there."""
    host = ssh_host("/bin/sh", "x" * (1 << 22))
    try:
        with pytest.raises(ToktoolsError, match=r"^/bin/sh: cannot be started: argument list too long$"):
            host.open()
    finally:
        host.close()


def test_a_host_that_was_never_reached(tmp_path: Path) -> None:
    """No connection is ended where none was begun."""
    ssh_host("/bin/sh", "-c", f"echo >{tmp_path}/started").close()
    assert list(tmp_path.iterdir()) == []


def test_a_link_where_a_file_is_to_be(tmp_path: Path) -> None:
    """A CLI that another user has in hand makes us write no file of ours."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    host = LocalHost(str(tmp_path), CONSOLE)
    host.open()
    os.symlink(victim, host.local("new-key.pub"))
    host.write("new-key.pub", b"PEM")
    host.close()
    assert victim.read_bytes() == b"precious"

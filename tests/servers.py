"""Servers on this machine: free ports, and an sshd for one user with one key, who is at home where the test says."""

from __future__ import annotations

import fcntl
import os
import pwd
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import need, wait_until


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def kms_words() -> list[str]:
    """Return the words that start a stand-in for KMS, all but the port."""
    directory = Path(need("moto_server")).resolve().parent
    return [str(directory / "python3"), str(Path(__file__).with_name("kms_stand_in.py"))]


@contextmanager
def shared_kms(directory: Path) -> Iterator[str]:
    """The URL of a stand-in for KMS that all who name this directory share; it ends with the last of them."""
    words = kms_words()
    with open(directory / "kms.users", "a") as users, open(directory / "kms.port", "a+") as place:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits where one is just ending
        fcntl.flock(place, fcntl.LOCK_EX)
        place.seek(0)
        port = int(place.read() or 0)
        if not (port and answers(port)):
            port = free_port()
            null = subprocess.DEVNULL
            words += [str(port), str(directory)]
            server = subprocess.Popen(words, stdout=null, stderr=null, start_new_session=True)

            def ready() -> bool:
                assert server.poll() is None, "the stand-in for KMS has ended"
                return answers(port)

            wait_until(ready)
            server.returncode = 0  # nobody waits for it
            place.truncate(0)
            place.write(str(port))
            place.flush()
        fcntl.flock(place, fcntl.LOCK_UN)
        yield f"http://127.0.0.1:{port}"


def configure_sshd(cwd: Path, names: str, at_home: str) -> tuple[int, list[str]]:
    """Write the keys, and the settings of ssh (ssh_config) and sshd, into a directory.

    The host goes by the names, and runs what it is sent by the shell commands of at_home. Returns the port, and the
    arguments of sshd.
    """
    port = free_port()
    for name in ("host_key", "my_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cwd / name], check=True)
    (cwd / "known_hosts").write_bytes(f"[127.0.0.1]:{port} ".encode() + (cwd / "host_key.pub").read_bytes())
    (cwd / "at_home").write_text(f"#!/bin/sh\n{at_home}")
    (cwd / "at_home").chmod(0o755)
    settings = f"""
        Port {port}
        ListenAddress 127.0.0.1
        HostKey {cwd}/host_key
        AuthorizedKeysFile {cwd}/my_key.pub
        ForceCommand {cwd}/at_home
        StrictModes no
        UsePAM no
        PidFile none
    """
    (cwd / "sshd_config").write_text(settings)
    host = f"""
        Host {names}
            HostName 127.0.0.1
            Port {port}
            User {pwd.getpwuid(os.geteuid()).pw_name}
            IdentityFile {cwd}/my_key
            IdentitiesOnly yes
            UserKnownHostsFile {cwd}/known_hosts
            GlobalKnownHostsFile none
    """
    (cwd / "ssh_config").write_text(host)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's sshd drops its privileges
    return port, ["-D", "-e", "-f", str(cwd / "sshd_config")]

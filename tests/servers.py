"""Servers on this machine: AWS KMS for all workers, and hosts of ssh, each with one user who has one key."""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import need, only_if, short_directory


@contextmanager
def shared_kms(directory: Path) -> Iterator[str]:
    """The URL of a stand-in for KMS that all who name this directory share; it ends with the last of them."""
    with open(directory / "kms.users", "a") as users, open(directory / "kms.port", "a+") as place:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits where one is just ending
        fcntl.flock(place, fcntl.LOCK_EX)
        place.seek(0)
        port = place.read() or _start_kms(directory)
        place.truncate(0)
        place.write(port)
        place.flush()
        fcntl.flock(place, fcntl.LOCK_UN)
        yield f"http://127.0.0.1:{port}"


def _start_kms(directory: Path) -> str:
    python = Path(need("moto_server")).resolve().with_name("python3")
    command = [python, Path(__file__).with_name("kms_stand_in.py"), directory]
    null = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=null, text=True, start_new_session=True)
    assert server.stdout
    with server.stdout:
        port = server.stdout.readline().strip()  # it takes connections now
    assert port, "the stand-in for KMS has ended"
    server.returncode = 0  # nobody waits for it
    return port


@contextmanager
def ssh_agent() -> Iterator[str]:
    """The name of the socket of an ssh-agent without keys."""
    with short_directory() as directory:
        socket = str(directory / "agent")
        with subprocess.Popen([need("ssh-agent"), "-D", "-a", socket], stdout=subprocess.PIPE) as agent:
            assert agent.stdout
            agent.stdout.readline()  # it takes connections now
            try:
                yield socket
            finally:
                agent.terminate()


def need_terminals() -> None:
    """Skip the test if a new terminal has not the group that sshd wants, which only root could set."""
    ours, line = os.openpty()
    gives = os.geteuid() == 0 or os.fstat(line).st_gid == grp.getgrnam("tty").gr_gid
    os.close(ours)
    os.close(line)
    only_if(gives, "only root's sshd can give terminals: /dev/pts has no group")


def configure_ssh(cwd: Path, names: str, at_home: str) -> None:
    """Write the keys, and the settings of ssh (ssh_config) and sshd, into a directory.

    The hosts go by the names, and run what they are sent by the shell commands of at_home, with the name as $NAME. An
    sshd is started for each connection, and talks to ssh through pipes: no port must be free, and no server be ended.
    """
    for name in ("host_key", "my_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cwd / name], check=True)
    (cwd / "known_hosts").write_bytes(b"* " + (cwd / "host_key.pub").read_bytes())
    (cwd / "at_home").write_text(f"#!/bin/sh\n{at_home}")
    (cwd / "at_home").chmod(0o755)
    settings = f"""
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
            ProxyCommand {need("sshd")} -i -E {cwd}/sshd.log -f {cwd}/sshd_config -o SetEnv=NAME=%n
            User {pwd.getpwuid(os.geteuid()).pw_name}
            IdentityFile {cwd}/my_key
            IdentitiesOnly yes
            UserKnownHostsFile {cwd}/known_hosts
            GlobalKnownHostsFile none
    """
    (cwd / "ssh_config").write_text(host)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's sshd drops its privileges

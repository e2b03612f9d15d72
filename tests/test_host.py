"""tok-login --host: the CLI behind a real sshd on loopback, with another home folder there."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Done, alive, need, wait_until
from rehearsing import PASSWORD
from servers import answers as answers_at
from servers import configure_sshd
from test_login import USER, Desk, answers, assert_refused, desk

from toktools.errors import ToktoolsError
from toktools.login import place

__all__ = ["desk"]  # fixtures


class Host:
    """A host, and the ssh that reaches it."""

    def __init__(self, desk: Desk, home: Path, port: int) -> None:
        self.desk = desk
        self.home = home
        self.port = port
        self.tmp = home / "tmp"
        self.tmp.mkdir()

    def login(self, *more: str, commands: tuple[str, ...] = ("user list",)) -> Done:
        """Log in there, and run a command."""
        done = self.desk.run(*self.words(*more), "--", *commands, env=self.desk.env, start_new_session=True)
        assert list(self.tmp.iterdir()) == []
        self.desk.assert_tidy(done.out.decode() + done.err)
        return done

    def words(self, *more: str) -> list[str]:
        ssh = f"ssh -F {self.desk.cwd}/ssh_config"
        words = ["tok-login", "-k", str(self.desk.key), *USER, "--cli", "./cli", "--password", "file:password"]
        return [*words, "--host", "hsm", "--ssh", ssh, *more]


LOSE = """
def {}:
    ancestor = os.getpid()
    while "sshd" not in open(f"/proc/{{ancestor}}/comm").read():
        ancestor = int(open(f"/proc/{{ancestor}}/stat").read().rpartition(")")[2].split()[1])
    note("lost", "")
    os.kill(ancestor, signal.SIGKILL)
    time.sleep(300)
"""
"""A step of the CLI there: the connection is lost, and no other can be made."""


@pytest.fixture
def host(desk: Desk) -> Iterator[Host]:
    """An sshd whose users are at home in a folder of their own, where the CLI is; their shell prints a banner."""
    sshd = need("sshd", "ssh", "ssh-keygen")
    cwd, home = desk.cwd, desk.cwd / "home"
    home.mkdir()
    at_home = f"""echo "Welcome to the host: toktools"
export HOME={home} PATH="{desk.bin}:$PATH" TMPDIR={home}/tmp
cd && [ ! -e lost ] && eval "$SSH_ORIGINAL_COMMAND"
"""
    port, arguments = configure_sshd(cwd, "hsm", at_home)
    there = Host(desk, home, port)
    shutil.move(cwd / "state.sqlite", home / "state.sqlite")
    shutil.move(cwd / "cli", home / "cli")
    with subprocess.Popen([sshd, *arguments], stderr=subprocess.DEVNULL) as server:
        wait_until(lambda: answers_at(port))
        yield there
        server.terminate()


def fake(host: Host, steps: str = "") -> None:
    """Have a fake as the CLI there."""
    host.desk.fake(steps)
    for name in ("cli", "fake.py"):
        shutil.move(host.desk.cwd / name, host.home / name)


def test_the_cli_on_a_host(host: Host) -> None:
    """The login is done there with the key that is here, over one connection, and nothing is left on either side."""
    done = host.login().check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]
    assert "Welcome to the host: toktools" in done.err


def test_the_token_file_there_is_private(host: Host) -> None:
    """The folder there is its owner's alone, and gone when a command runs."""
    fake(
        host,
        r"""
def answer(path):
    note("told", oct(os.stat(os.path.dirname(path)).st_mode))
    reply(0)
def run(line):
    reply(os.listdir(os.environ["TMPDIR"]))
""",
    )
    done = host.login().check(0)
    assert (host.home / "told").read_text() == f"{oct(stat.S_IFDIR | 0o700)}\n"
    assert answers(done.out) == [{"error_code": 0, "data": []}]
    assert PASSWORD in (host.home / "heard").read_text().splitlines()


@pytest.mark.parametrize("step", ["ask_password()", "write_tokens(path)", "answer(path)", "run(line)"])
def test_the_connection_is_lost(host: Host, step: str) -> None:
    """Wherever the connection ends, that is said in a line, and the host removes the folder by itself."""
    fake(host, LOSE.format(step))
    done = host.desk.run(*host.words(), "--", "x", env=host.desk.env, start_new_session=True)
    done.check(2, "./cli: it ended (exit status 255)")
    wait_until(lambda: not list(host.tmp.iterdir()))
    host.desk.assert_tidy(done.err)


def test_what_the_host_needs(host: Host) -> None:
    """With the commands that the manual names, and no others, the host removes the folder by itself."""
    page = (ROOT / "man" / "tok-login.1").read_text()
    named = re.findall(r"\.Xr (\w+) 1", page.partition("The host needs only")[2].partition(" .\n")[0])
    assert "cat" in named
    few = host.home / "few"
    few.mkdir()
    for name in ("sh", *named):
        (few / name).symlink_to(need(name))
    at_home = (
        f'#!/bin/sh\nexport PATH={few} TMPDIR={host.tmp}\ncd {host.home}\n[ -e lost ] || eval "$SSH_ORIGINAL_COMMAND"\n'
    )
    host.desk.write("at_home", at_home.encode())
    fake(host, LOSE.format("answer(path)"))
    done = host.desk.run(*host.words(), "--", "x", env=host.desk.env, start_new_session=True)
    done.check(2, "./cli: it ended (exit status 255)")
    wait_until(lambda: not list(host.tmp.iterdir()))


@pytest.mark.parametrize("step", ["start()", "write_tokens(path)"])
def test_a_signal(host: Host, step: str) -> None:
    """A signal ends it, the connection and the CLI there, and no folder is left."""
    fake(host, f"def {step}:\n    note('here', str(os.getpid()))\n    time.sleep(300)")
    words = [*host.words(), "--", "x"]
    with host.desk.start(*words, start_new_session=True) as child:
        wait_until(lambda: (host.home / "here").exists() and (host.home / "here").read_text().endswith("\n"))
        child.send_signal(signal.SIGTERM)
    assert child.returncode == -signal.SIGTERM
    assert list(host.tmp.iterdir()) == []
    host.desk.assert_tidy("")
    there = int((host.home / "here").read_text())
    wait_until(lambda: not alive(there))


@pytest.mark.parametrize("trap", [":", "trap '' TERM"])
def test_a_signal_while_ssh_connects(desk: Desk, trap: str) -> None:
    """A signal does not wait for ssh, which is ended too, though it ignores that."""
    desk.script(f'case "$*" in *" -O exit "*) exit ;; esac; {trap}; echo $$ >here; exec sleep 300', "ssh")
    words = desk.words("--password", "file:password", "--host", "hsm", "--ssh", "./ssh", "--", "x")
    with desk.start(*words, env=desk.env, start_new_session=True) as child:
        wait_until(lambda: bool(desk.lines("here")))
        child.send_signal(signal.SIGTERM)
        assert child.wait(120) == -signal.SIGTERM
    (connecting,) = map(int, desk.lines("here"))
    wait_until(lambda: not alive(connecting))
    desk.assert_tidy("")


def test_a_host_that_is_silent(desk: Desk) -> None:
    """Once there is a connection, a command on the host may take no longer than --timeout says."""
    desk.script('case "$*" in *mktemp*) echo $$ >>here; exec sleep 300 ;; esac', "ssh")
    assert_refused(
        desk.login("--host", "hsm", "--ssh", "./ssh", "--timeout", "1"), 2, "tok-login: hsm: no answer in 1 seconds\n"
    )
    assert not alive(int(desk.lines("here")[0]))


@pytest.mark.parametrize("command", ["fetch", "send"])
def test_a_file_on_a_host_that_is_silent(desk: Desk, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """The files do not wait longer either."""
    desk.script('case "$*" in *mktemp*) echo toktools:/folder ;; *cat*) exec sleep 300 ;; esac', "ssh")
    monkeypatch.setattr(tempfile, "tempdir", str(desk.tmp))
    there = place.There([str(desk.cwd / "ssh")], "hsm", 120.0)
    try:
        there.reach()
        there.patience = 0.1
        file = there.file("tokens.json")
        Path(file.local).touch()
        with pytest.raises(ToktoolsError, match="hsm: no answer in"):
            getattr(file, command)()
    finally:
        there.close()


def test_a_token_file_that_comes_late(host: Host) -> None:
    """A token file that is not there yet is waited for, and nothing is said about that."""
    at_home = (host.desk.cwd / "at_home").read_text()
    looked = (
        f'(eval "$SSH_ORIGINAL_COMMAND"); case "$SSH_ORIGINAL_COMMAND" in *"exec cat /"*) : >{host.home}/looked ;; esac'
    )
    host.desk.write("at_home", at_home.replace('eval "$SSH_ORIGINAL_COMMAND"', looked).encode())
    fake(
        host,
        """
original = write_tokens
def write_tokens(path):
    pass
def ask_file(path):
    show(FILE)
    while not os.path.exists("looked"):
        time.sleep(0.001)
    original(path)
    hear()
""",
    )
    done = host.login().check(0)
    assert done.err == "tok-login: Welcome to the host: toktools\n"


def test_an_unknown_host_key(host: Host) -> None:
    """What ssh does not trust is not used."""
    host.desk.write("known_hosts", b"")
    done = host.login()
    assert done.status == 2
    assert done.err.endswith("tok-login: hsm: ssh failed\n")
    assert not (host.home / "pid").exists()


def test_no_mktemp(host: Host) -> None:
    """Where no folder can be made, that is said."""
    host.desk.write("at_home", b'#!/bin/sh\nPATH=/nowhere\neval "$SSH_ORIGINAL_COMMAND"\n')
    done = host.login()
    assert done.status == 2
    assert "tok-login: hsm: " in done.err


@pytest.mark.parametrize("name", ["a b", "a;b", "*", "a'b", "$(echo a)", "ü", "a\nb"])
def test_a_tmpdir_there_that_a_cli_may_misread(host: Host, name: str) -> None:
    """Where the CLI may misread the TMPDIR there, nothing is typed, and no other folder is removed."""
    fake(host)
    tmp = host.home / "theirs" / name
    for folder in (tmp, tmp.parent / "a", tmp.parent / "b"):
        folder.mkdir(parents=True)
        (folder / "of others").touch()
    at_home = f'#!/bin/sh\nexport TMPDIR={shlex.quote(str(tmp))}\ncd {host.home}\neval "$SSH_ORIGINAL_COMMAND"\n'
    host.desk.write("at_home", at_home.encode())
    before = sorted(tmp.parent.rglob("*"))
    done = host.login()
    hint = "tok-login: hint: set TMPDIR there to a folder with a plain name: letters, digits, '.', '_' and '-'\n"
    assert_refused(done, 2, "tok-login: hsm: /", "the CLI may misread this name\n", hint)
    assert sorted(tmp.parent.rglob("*")) == before
    assert not (host.home / "pid").exists()


@pytest.mark.parametrize("name", ["", "-oProxyCommand=x", "a b", "a\n"])
def test_a_host_that_is_none(desk: Desk, name: str) -> None:
    """What ssh would take for an option is refused."""
    assert_refused(desk.login(f"--host={name}"), 2, "--host: expected [USER@]HOST, as ssh takes it\n")


def test_no_ssh(desk: Desk) -> None:
    """Where there is no ssh, that is said."""
    assert_refused(desk.login("--host", "hsm", "--ssh", "./no-ssh"), 2, "./no-ssh: not found, or not executable\n")

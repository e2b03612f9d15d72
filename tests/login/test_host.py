"""tok-login --host: the CLI behind a real sshd on loopback, with another home directory there."""

from __future__ import annotations

import re
import shutil
import signal
import stat
from typing import TYPE_CHECKING

import pytest
from cli_desk import USER, Desk, answers, assert_refused, desk, seat
from conftest import ROOT, Done, alive, need, wait_until
from rehearsing import PASSWORD
from servers import configure_ssh, need_terminals, ssh_agent

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["desk"]  # a fixture

AT_HOME = """export HOME={home} PATH="{bin}:$PATH"
cd && [ ! -e lost ] && """
RUN = 'eval "$SSH_ORIGINAL_COMMAND"\n'


class Host:
    """A host, and the ssh that reaches it."""

    def __init__(self, desk: Desk, home: Path) -> None:
        self.desk = desk
        self.home = home
        self.tmp = home / "tmp"
        self.tmp.mkdir()
        self.behaves()

    def behaves(self, before: str = "", run: str = RUN) -> None:
        """Have the host do something *before* it runs what it is sent, or *run* that in another way."""
        at_home = AT_HOME.format(home=self.home, bin=self.desk.bin)
        self.desk.write("at_home", f"#!/bin/sh\n{before}\n{at_home}{run}".encode()).chmod(0o755)

    def fake(self, steps: str = "") -> None:
        """Have a fake as the CLI there."""
        self.desk.fake(steps)
        for name in ("cli", "fake.py"):
            shutil.move(self.desk.cwd / name, self.home / name)

    def words(self, *more: str, ssh: str = "ssh") -> list[str]:
        words = ["tok-login", "-k", str(self.desk.key), *USER, "--cli", "./cli", "--password", "file:password"]
        ssh = f"{ssh} -F {self.desk.cwd}/ssh_config"
        return [*words, "--host", "hsm", "--ssh", ssh, "--token-dir", str(self.tmp), *more]

    def run(self, *words: str) -> Done:
        done = self.desk.run(*words, env=self.desk.env, start_new_session=True)
        wait_until(lambda: not list(self.tmp.iterdir()))
        self.desk.assert_nothing_left(done.out.decode() + done.err)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.err)
        return done

    def login(self, *more: str, ssh: str = "ssh") -> Done:
        """Log in there, and run a command."""
        return self.run(*self.words(*more, ssh=ssh), "--", "user list")

    def heard(self) -> list[str]:
        path = self.home / "heard"
        return path.read_text().splitlines() if path.exists() else []


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
def host(desk: Desk) -> Host:
    """An sshd whose users are at home in a directory of their own, where the CLI is."""
    need("ssh", "ssh-keygen", "sshd")
    need_terminals()
    home = desk.cwd / "home"
    home.mkdir()
    configure_ssh(desk.cwd, "hsm", "")
    there = Host(desk, home)
    shutil.move(desk.cwd / "state.json", home / "state.json")
    shutil.move(desk.cwd / "cli", home / "cli")
    return there


def test_the_cli_on_a_host(host: Host) -> None:
    """The login is done there with the key that is here, and nothing is left on either side."""
    done = host.login().check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]
    assert done.err.count("\n") == 1  # the stand-in's own
    done = host.login("-v", "--record", "login.cast").check(0, "connection opened: hsm\n", "typed: (the password)\n")
    recording = host.desk.read("login.cast").decode()
    assert "/toktools-" in recording
    assert PASSWORD not in done.err + recording
    odd = host.desk.tmp / "a blank"  # a name that the CLI there never sees
    odd.mkdir()
    words = [*host.words(), "--", "user list"]
    host.desk.run(*words, env={**host.desk.env, "TMPDIR": str(odd)}, start_new_session=True).check(0)
    odd.rmdir()


@pytest.mark.parametrize("login_shell", ["bash", "dash", "busybox sh", "tcsh", "fish", "zsh"])
def test_login_shells(host: Host, login_shell: str) -> None:
    """Any login shell will do, and a CLI of words that it might take for something else."""
    need(login_shell.split(maxsplit=1)[0])
    host.fake()
    host.behaves(run=f'exec {login_shell} -c "$SSH_ORIGINAL_COMMAND"\n')
    cli = "./cli 'a b' '$HOME' '*' \"it's\" '\"q\"' '`id`' ''"
    words = [word if word != "./cli" else cli for word in host.words()]
    done = host.run(*words, "--", "user list").check(0)
    assert answers(done.out)[0]["data"] == "user list"
    assert (host.home / "words").read_text() == '["a b", "$HOME", "*", "it\'s", "\\"q\\"", "`id`", "", "interactive"]\n'


@pytest.mark.parametrize("word", ["a!", "a\\\\b"])
def test_words_that_a_login_shell_may_misread(host: Host, word: str) -> None:
    """They are refused."""
    words = [f"./cli '{word}'" if each == "./cli" else each for each in host.words()]
    assert_refused(host.run(*words, "--", "x"), 2, "--cli: a word with a backslash, '!' or a line end cannot be sent")


def test_the_token_file_there_is_private(host: Host) -> None:
    """The directory there is its owner's alone, its name is random, and it is gone when a command runs."""
    host.fake(
        f"""
def answer(path):
    note("told", oct(os.stat(os.path.dirname(path)).st_mode) + " " + path)
    reply(0)
def run(line):
    reply(os.listdir("{host.tmp}"))
"""
    )
    done = host.login().check(0)
    mode, path = (host.home / "told").read_text().split()
    assert mode == oct(stat.S_IFDIR | 0o700)
    assert re.fullmatch(f"{host.tmp}/toktools-[0-9a-f]{{16}}/unsigned-tokens.json", path)
    assert answers(done.out) == [{"error_code": 0, "data": []}]
    assert PASSWORD in host.heard()


def test_a_cli_of_another_user(host: Host) -> None:
    """The directory stays while the CLI runs, though the shell that watches may not send it a signal: sudo."""
    host.fake(
        f"""
def write_tokens(path, old=write_tokens):
    while os.path.exists(os.path.dirname(path)) and os.path.getsize("{host.home}/looked") < 3:
        time.sleep(0.01)
    old(path)
"""
    )
    for name, body in (
        ("sh", 'script=$2; shift 2; exec /bin/sh -c "kill() { return 1; }; $script" "$@"'),
        ("sleep", f"printf x >>{host.home}/looked; exec /bin/sleep 0.1"),
    ):
        (host.home / name).write_text(f"#!/bin/sh\n{body}\n")
        (host.home / name).chmod(0o755)
    (host.home / "looked").touch()
    host.behaves(run=f'PATH="$HOME:$PATH"; {RUN}')
    assert answers(host.login().check(0).out) == [{"error_code": 0, "data": "user list"}]


def test_what_a_host_prints(host: Host) -> None:
    """Nothing of a dotfile is believed, not even a marker that it repeats, and its escapes are shown as such."""
    host.behaves(
        'printf "%0999d\\n" 0 >&2;'
        'printf "toktools:/tmp/x\\n%s\\n" "$SSH_ORIGINAL_COMMAND"; printf "\\033[8mEnter pass phrase: \\n%s" x >&2'
    )
    done = host.login().check(0)
    assert [answer["error_code"] for answer in answers(done.out)] == [0]
    assert "tok-login: hsm: \\x1b[8mEnter pass phrase:\n" in done.err
    assert 0 < max(map(len, re.findall("hsm: (0*)$", done.err, re.MULTILINE))) <= 300


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("exec /bin/cat /dev/zero", "tok-login: hsm: more than 131072 bytes of output\n"),
        ("yes >&2", "tok-login: hsm: more than 131072 bytes of output\n"),
        ("printf '\\033[2J' >&2; exit 3", "tok-login: hsm: exit status 3: \\x1b[2J\n"),
    ],
)
def test_a_hostile_head(host: Host, head: str, said: str) -> None:
    """Its output is bounded and escaped."""
    host.fake()
    (host.home / "head").write_text(f"#!/bin/sh\n{head}\n")
    (host.home / "head").chmod(0o755)
    host.behaves(run=f'PATH="$HOME:$PATH"; {RUN}')
    done = host.login()
    lost = "tok-login: the connection to hsm was lost\n"  # a flood may end it first
    assert_refused(done, 2, lost if "more than" in said and lost in done.err else said)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("os.mkfifo(path)", "not a regular file"),
        ('os.symlink("/dev/zero", path)', "not a regular file"),
        ('open(path, "w").truncate(1 << 20)', "larger than 65536 bytes"),
        ("pass", "no such file or directory"),
    ],
)
def test_a_token_file_that_is_none(host: Host, steps: str, said: str) -> None:
    """It is named, with what is wrong, as it is here."""
    host.fake(f"def write_tokens(path):\n    {steps}")
    assert_refused(host.login(), 2, f"/unsigned-tokens.json: {said}\n")


def test_a_directory_that_cannot_be_removed(host: Host) -> None:
    """If the CLI has put something else there, the directory stays, and a warning names it."""
    host.fake('def write_tokens(path, old=write_tokens):\n    old(path)\n    os.mkdir(os.path.dirname(path) + "/more")')
    done = host.desk.run(*host.words(), "--", "x", env=host.desk.env, start_new_session=True).check(0)
    (directory,) = host.tmp.iterdir()
    assert done.err.startswith(f"tok-login: warning: hsm: {directory}: cannot be removed: rmdir: ")
    assert done.err.count("\n") == 1


def test_nothing_of_ours_is_lent(host: Host) -> None:
    """The agent is not forwarded, whatever ssh_config says; with ssh -A it is."""
    config = host.desk.cwd / "ssh_config"
    config.write_text("ForwardAgent yes\n" + config.read_text())
    host.behaves('echo "<$SSH_AUTH_SOCK>" >>' + f"{host.home}/lent")
    with ssh_agent() as socket:
        env = {**host.desk.env, "SSH_AUTH_SOCK": socket}
        for ssh, is_lent in (("ssh", False), ("ssh -A", True)):
            host.desk.run(*host.words(ssh=ssh), "--", "user list", env=env, start_new_session=True).check(0)
            lent = {*(host.home / "lent").read_text().splitlines()} - {"<>"}
            assert bool(lent) == is_lent


@pytest.mark.parametrize("step", ["start()", "ask_password()", "write_tokens(path)", "answer(path)", "run(line)"])
def test_the_connection_is_lost(host: Host, step: str) -> None:
    """Wherever the connection ends, that is said in a line, and the host removes the directory by itself."""
    host.fake(LOSE.format(step))
    done = host.run(*host.words(), "--", "x").check(2, "the connection to hsm was lost")
    assert done.err.count("\n") == 1 + done.err.count("tok-login: hint: ")


def test_a_cli_that_a_signal_ends(host: Host) -> None:
    """It is not told as the end of the connection, though ssh(1) gives both the same exit status."""
    host.fake("def run(line):\n    os.kill(os.getpid(), signal.SIGKILL)")
    assert_refused(host.login(), 2, "./cli: it ended (exit status 255, or killed by a signal); it shows: nothing\n")


def test_a_host_that_allows_one_session(host: Host) -> None:
    """The CLI and a copy of a file are two sessions."""
    config = host.desk.cwd / "sshd_config"
    config.write_text(f"{config.read_text()}\nMaxSessions 1\n")
    host.login().check(2, "hsm: exit status 255: ", "hint: sshd there may allow only one session (MaxSessions)")


def test_the_connection_is_lost_behind_a_proxy(host: Host) -> None:
    """No other connection to the host is made, though the user's options name a proxy."""
    (proxy,) = re.findall(r"ProxyCommand (.*) -o SetEnv", (host.desk.cwd / "ssh_config").read_text())
    host.desk.script(f'echo "$1" >>proxied; [ "$1" = hsm ] && exec {proxy}', "proxy")
    host.fake(LOSE.format("write_tokens(path)"))
    words = host.words(ssh=f"ssh -o 'ProxyCommand {host.desk.cwd}/proxy %h'")
    host.run(*words, "--", "x").check(2, "the connection to hsm was lost")
    assert host.desk.lines("proxied").count("hsm") == 1


def test_the_connection_is_lost_while_it_connects(host: Host) -> None:
    """Nothing more is sent, and no directory is left."""
    host.behaves("kill -9 $PPID; sleep 1")
    done = host.login().check(2)
    assert "tok-login: hsm: ssh failed" in done.err


def test_the_connection_is_lost_at_the_prompt(host: Host) -> None:
    """A person is told, and the exit status says so."""
    host.fake(LOSE.format("run(line)"))
    with seat(host.desk, *host.words()[9:]) as person:
        person.wait_for("logged in as officer1 (admin)", "aws-cloudhsm > ")
        person.type("user list")
        assert "tok-login: ./cli: the connection to hsm was lost\r\n" in person.end(2)


def test_what_the_host_needs(host: Host) -> None:
    """With the commands that the page names, and no others, the host removes the directory by itself."""
    page = (ROOT / "man" / "tok-login.1").read_text()
    named = re.findall(r"\.Xr (\w+) 1", page.partition("The host needs only")[2].partition(" .\n")[0])
    assert "cat" in named
    few = host.home / "few"
    few.mkdir()
    for name in named:
        (few / name).symlink_to(str(shutil.which(name)))
    host.fake(LOSE.format("answer(path)"))
    host.behaves(run=f"export PATH={few}; {RUN}")
    host.run(*host.words(), "--", "x").check(2, "the connection to hsm was lost")


@pytest.mark.parametrize("step", ["start()", "write_tokens(path)"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal(host: Host, step: str, number: signal.Signals) -> None:
    """A signal ends it, and the connection, and the CLI there, and no directory is left."""
    host.fake(f"def {step}:\n    note('here', str(os.getpid()))\n    time.sleep(300)")
    with host.desk.start(*host.words(), "--", "x", start_new_session=True, env=host.desk.env) as child:
        wait_until(lambda: (host.home / "here").exists() and (host.home / "here").read_text().endswith("\n"))
        child.send_signal(number)
        assert child.wait(60) == -number
    wait_until(lambda: not list(host.tmp.iterdir()))
    host.desk.assert_nothing_left("")
    there = int((host.home / "here").read_text())
    wait_until(lambda: not alive(there))


@pytest.mark.parametrize("when", ["echo", "; head -c"])
def test_a_host_that_is_silent(host: Host, when: str) -> None:
    """Once there is a connection, a command there takes no longer than --timeout says; a signal does not wait."""
    host.fake()
    host.behaves(f'case $SSH_ORIGINAL_COMMAND in *"{when}"*) echo >{host.home}/silent; trap "" TERM; sleep 20 ;; esac')
    words = host.words("--timeout", "5")
    done = host.desk.run(*words, "--", "x", env=host.desk.env, start_new_session=True)
    done.check(2, "tok-login: hsm: no answer within 5 seconds\n")
    (host.home / "silent").unlink()
    with host.desk.start(*host.words(), "--", "x", start_new_session=True, env=host.desk.env) as child:
        wait_until((host.home / "silent").exists)
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == -signal.SIGTERM  # before the host is done
    host.desk.assert_nothing_left("")


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
    desk.assert_nothing_left("")


def test_a_container(desk: Desk) -> None:
    """The script on the page takes the place of ssh for a CLI in a container, which has a terminal of its own."""
    page = (ROOT / "man" / "tok-login.1").read_text()
    body = page.partition("#!/bin/sh\n")[2].partition(".Ed\n")[0]
    desk.script(body, "in-container")
    desk.script('echo "$*" >>docker-was-given; while [ "$1" != box ]; do shift; done; shift; exec "$@"', "docker")
    desk.fake()
    env = {**desk.env, "PATH": f"{desk.cwd}:{desk.env['PATH']}"}
    words = ["--password", "file:password", "--host", "box", "--ssh", "./in-container", "--", "user list"]
    done = desk.run(*desk.words(*words), env=env, start_new_session=True).check(0)
    assert answers(done.out) == [{"error_code": 0, "data": "user list"}]
    assert [line.startswith("exec -i -t box sh -c ") for line in desk.lines("docker-was-given")].count(True) == 1
    desk.assert_nothing_left(done.err)


def test_no_cli_there(host: Host) -> None:
    """What is not there is named, and the option that names another."""
    (host.home / "cli").unlink()
    done = host.login()
    assert_refused(done, 2, "./cli: it ended (not found on hsm, or not executable); it shows: ", "hint: name the CLI")


def test_no_directory_there(host: Host) -> None:
    """Where no directory can be made, that is said."""
    words = [f"{host.home}/none" if word == str(host.tmp) else word for word in host.words()]
    done = host.run(*words, "--", "x")
    assert_refused(done, 2, f"cannot create the directory {host.home}/none/toktools-", "hint: name another directory")
    assert not (host.home / "pid").exists()


def test_an_unknown_host_key(host: Host) -> None:
    """What ssh does not trust is not used; what ssh says is shown."""
    host.desk.write("known_hosts", b"")
    done = host.login().check(2, "tok-login: hsm: Host key verification failed.\n")
    assert "tok-login: hsm: ssh failed: Host key verification failed.\ntok-login: hint: -v" in done.err
    assert not (host.home / "pid").exists()


NOT_RUN = "it did not run the command that it was sent; it printed: "


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("echo 'This account is \033[8mnot available.'; exit 1", "This account is \\x1b[8mnot available."),
        ("echo \"fatal: unknown: '$SSH_ORIGINAL_COMMAND'\"; exit 128", "fatal: unknown: 'exec "),
        ("yes 'Welcome' | head -n 9999", "Welcome / Welcome"),
        ("cat", "nothing"),
    ],
    ids=["nologin", "repeats it", "much", "nothing"],
)
def test_a_host_that_runs_something_else(host: Host, run: str, said: str) -> None:
    """What a forced command or login shell prints is shown, escaped and cut, and nothing is typed there."""
    host.behaves(run=f"{run}\n")
    done = host.login()
    assert_refused(done, 2, f"tok-login: hsm: {NOT_RUN}", said, "hint: a forced command or login shell there runs")
    assert len(done.err) < 700


def test_much_on_standard_error(host: Host) -> None:
    """Of what is printed there while ssh connects, twenty lines are shown, and the last ones if that fails."""
    host.behaves("yes noise | head -n 999 >&2")
    done = host.login().check(0)
    assert done.err.count("tok-login: hsm: noise\n") == 20
    assert done.err.count("tok-login: hsm: more was left out\n") == 1
    host.behaves("yes noise | head -n 999 >&2; echo Denied >&2; exit 255")
    assert host.login().check(2).err.count("/ noise / Denied\n") == 1


def test_an_ssh_that_loses_the_quotes(host: Host) -> None:
    """Another program in the place of ssh must pass the command on as it is."""
    host.desk.script('for last; do :; done; eval "set -- $last"; exec sh -c "$*"', "no-quotes")
    done = host.run(*host.desk.words("--password", "file:password", "--host", "h", "--ssh", "./no-quotes", "--", "x"))
    assert_refused(done, 2, f"tok-login: h: {NOT_RUN}nothing\n", ", or --ssh changes the command\n")


def test_no_ssh(desk: Desk) -> None:
    """Where there is no ssh, that is said."""
    assert_refused(desk.login("--host", "hsm", "--ssh", "./no-ssh"), 2, "./no-ssh: not found, or not executable\n")

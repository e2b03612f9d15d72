"""Where the CLI runs, and has its token files: here, or on a host that OpenSSH reaches."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from math import inf
from tempfile import TemporaryDirectory

from toktools.errors import ToktoolsError, shown
from toktools.system import files, process

_PLAIN = str.maketrans("/._-", "xxxx")
_SENT = b"toktools:"
"""What a login shell prints is before it."""
_MAKE = """umask 077
d=$(mktemp -d) || exit
LC_ALL=C
case $d in
[!/]*|*[!A-Za-z0-9/._-]*) rmdir -- "$d" || :; printf 'toktools:"%s"\\n' "$d" ;;
*) printf 'toktools:%s\\n' "$d" ;;
esac
"""
"""Makes a folder and tells its name; or, where the CLI may misread that, removes it at once, and quotes the name."""
_TOLD = re.compile(rb'toktools:(?:(/[A-Za-z0-9/._-]+)|"(.+)")\n', re.DOTALL)
_LOST = 255
"""The exit status of ssh for its own trouble (ssh(1))."""
_PATIENCE = 10.0
_KINDLY = 0.5
_PERSIST = 10
"""Seconds that a connection is kept without a command."""


class File:
    """A file that the CLI writes or reads, and its copy here: the same file, where the CLI is here."""

    def __init__(self, local: str, path: str, run: Callable[..., bytes] | None = None) -> None:
        self.local = local
        """The copy here."""
        self.path = path
        """The file as the CLI names it."""
        self._run = run
        """What runs a shell's commands where the CLI is, if that is not here."""

    def fetch(self) -> None:
        """Have the file here as it is now. Raises ToktoolsError."""
        if self._run:
            path = shlex.quote(self.path)
            _, sent, content = self._run(f"[ ! -f {path} ] || {{ printf toktools:; exec cat {path}; }}").partition(
                _SENT
            )
            if not sent:
                raise ToktoolsError(f"{shown(self.path)}: no such file or directory")
            self._put(content)

    def send(self) -> None:
        """Have the CLI see the copy. Raises ToktoolsError."""
        if self._run:
            with open(self.local, "rb") as file:
                self._run(f"exec cat >{shlex.quote(self.path)}", stdin=file.read())

    def write(self, content: bytes) -> None:
        """Give the CLI a file with this content. Raises ToktoolsError."""
        self._put(content)
        self.send()

    def _put(self, content: bytes) -> None:
        fd = os.open(self.local, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)


class Here:
    """On this machine: the CLI's files are in a private folder. Raises ToktoolsError where there can be none."""

    def __init__(self) -> None:
        with files.trouble_at("a folder for the token file, in TMPDIR or /tmp"):
            self._folder = TemporaryDirectory(prefix="toktools-", dir=files.temporary())

    def reach(self) -> None:
        """Have a folder where the CLI is, which may take any time: a signal may end it. Raises ToktoolsError."""

    def file(self, name: str) -> File:
        """Return the file of that name, which need not be there yet."""
        local = os.path.join(self._folder.name, name)
        return File(local, local)

    def argv(self, cli: Sequence[str]) -> list[str]:
        """Return what starts the CLI. Raises ToktoolsError where it might misread the names of the files."""
        # How it would want them quoted is not documented.
        folder = self._folder.name
        if not (folder.isascii() and folder.translate(_PLAIN).isalnum()):
            raise _misread(folder)
        return list(cli)

    def clear(self) -> None:
        """Remove the folder, which no more than a login needs; more than once does no harm."""
        self._folder.cleanup()

    def close(self) -> None:
        """Leave nothing behind."""
        self.clear()


class There(Here):
    """A host, to which one connection serves every command; ssh asks what it has to, on the terminal."""

    def __init__(self, ssh: Sequence[str], host: str, patience: float) -> None:
        super().__init__()
        self.patience = patience
        """Seconds that a command there may take, once there is a connection."""
        self._host = host
        # The name of a socket is short, whatever TMPDIR is (unix(7)).
        self._socket = TemporaryDirectory(prefix="toktools-", dir="/tmp")
        self._ssh = [*ssh, "-o", f"ControlPath={self._socket.name}/s"]
        self._there = ""
        self._running: subprocess.Popen[bytes] | None = None

    def reach(self) -> None:
        """Connect, and have a folder there. Raises ToktoolsError."""
        # A person may have to answer ssh, which has a patience of its own.
        self._run(":", "-o", "ControlMaster=yes", "-o", f"ControlPersist={_PERSIST}", patience=inf)
        # From here on ssh asks nothing.
        told = _TOLD.search(self._run(_MAKE))
        if not told:
            raise ToktoolsError(f"{shown(self._host)}: cannot create a folder there with mktemp -d")
        if told[2]:
            raise _misread(os.fsdecode(told[2]), " there").at(shown(self._host))
        self._there = os.fsdecode(told[1])

    def file(self, name: str) -> File:
        """Return the file of that name, which is copied over the connection."""
        return File(os.path.join(self._folder.name, name), f"{self._there}/{name}", self._run)

    def argv(self, cli: Sequence[str]) -> list[str]:
        """Return what starts the CLI there, and what removes the folder when it ends, however."""
        # The CLI takes the shell's place, so that it is the one who is hung up.
        watch = f"while kill -0 $$; do sleep 1 || exit; done; rm -rf {shlex.quote(self._there)}"
        script = f"(trap '' HUP INT QUIT TERM; {watch}) </dev/null >/dev/null 2>&1 & exec {shlex.join(cli)}"
        return [*self._ssh, "-o", "ControlMaster=no", "-tt", "--", self._host, _in_shell(script)]

    def clear(self) -> None:
        """Remove the folder there and here."""
        there, self._there = self._there, ""
        if there:
            try:
                # Where the connection is lost, another is tried, but nobody is asked for anything.
                self._run(f"exec rm -rf {shlex.quote(there)}", "-o", "BatchMode=yes", patience=_PATIENCE)
            except ToktoolsError:
                pass  # what was in the way is told already
        super().clear()

    def close(self) -> None:
        """Leave nothing behind, the connection neither; a signal may call this while ssh runs."""
        self._stop()
        self.clear()
        try:
            argv = [*self._ssh, "-O", "exit", "--", self._host]
            subprocess.run(argv, check=False, timeout=_PATIENCE, capture_output=True)  # noqa: S603 - what the user names
        except (OSError, subprocess.TimeoutExpired):
            pass
        self._socket.cleanup()

    def _run(self, script: str, *options: str, stdin: bytes = b"", patience: float = 0.0) -> bytes:
        """Run a shell's commands there, and return what they print. Raises ToktoolsError."""
        options = options or ("-o", "ControlMaster=no")
        patience = patience or self.patience
        argv = [*self._ssh, *options, "-T", "--", self._host, _in_shell(script)]
        pipe = subprocess.PIPE
        try:
            child = subprocess.Popen(argv, stdin=pipe, stdout=pipe)  # noqa: S603 - the same
            self._running = child
        except OSError:
            raise ToktoolsError(f"{shown(self._ssh[0])}: not found, or not executable", "name it with --ssh") from None
        with child:
            try:
                output = child.communicate(stdin, None if patience == inf else patience)[0]
            except subprocess.TimeoutExpired:
                raise ToktoolsError(f"{shown(self._host)}: no answer in {patience:g} seconds") from None
            finally:
                self._stop()
        if child.returncode:
            what = "ssh failed" if child.returncode == _LOST else process.exit_text(child.returncode)
            raise ToktoolsError(f"{shown(self._host)}: {what}")
        return output

    def _stop(self) -> None:
        """End the ssh that runs, if one does: kindly, since it may have turned the terminal's echo off."""
        child, self._running = self._running, None
        if child and child.poll() is None:
            child.terminate()
            try:
                child.wait(_KINDLY)
            except subprocess.TimeoutExpired:
                child.kill()


def _misread(folder: str, where: str = "") -> ToktoolsError:
    return ToktoolsError(
        f"{shown(folder)}: the CLI may misread this name",
        f"set TMPDIR{where} to a folder with a plain name: letters, digits, '.', '_' and '-'",
    )


def _in_shell(script: str) -> str:
    """Return a command for the login shell there, whatever that is: sh(1) with the script."""
    return f"exec sh -c {shlex.quote(script)}"

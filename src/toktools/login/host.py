"""The host of the CLI and of its token files: this machine, or one that OpenSSH reaches.

Everything from another host is hostile. Only the content between two random markers of its output is read.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from tempfile import mkdtemp

from toktools.errors import ToktoolsError, shown
from toktools.system import files, process
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from toktools.cli import Console

TOKEN_FILES = ("unsigned-tokens.json", "login.json", "set-up.json", "proof.json")
NEW_KEY = "new-key.pub"
MAX_TOKEN_FILE = 1 << 16  # bytes; that of 28 HSMs has 13,000
_MAX_OUTPUT = 2 * MAX_TOKEN_FILE  # bytes from one command on the host: a token file, and what a login shell prints
_MAX_SHOWN = 300  # characters of a host's output in a message
_MAX_LINES = 20  # of its standard error, and that of ssh, that are shown while they connect
_PLAIN = str.maketrans("/._-", "xxxx")
_CANNOT_CREATE = 73  # sysexits.h
_CANNOT_RUN = (126, 127)  # sh(1)
_NO_PROGRAM = (errno.ENOENT, errno.EACCES, errno.ENOEXEC)
_LOST = 255  # ssh(1)
_PERSIST_SECONDS = 60  # a connection is kept without a command; close() ends it
_REMOVE_SECONDS = 10.0
_CLOSE_SECONDS = 0.3
_POLL_SECONDS = 0.05


class LocalHost:
    """The local machine: a private directory for token files, in *token_dir*, or in TMPDIR or /tmp.

    Nothing is there before open(), and nothing after close().
    """

    def __init__(self, token_dir: str | None, console: Console) -> None:
        self._console = console
        self._token_dir = token_dir
        self._directory = ""

    def open(self) -> None:
        """Create the directory. Raises ToktoolsError if the CLI might misread its name."""
        parent = self._token_dir or files.temporary()
        with (
            files.trouble_at(f"a directory for the token file, in {files.display(parent)}"),
            process.held(),
        ):
            self._directory = mkdtemp(prefix="toktools-", dir=parent)
        if not is_plain(self.path("")):  # how the CLI would want it quoted is not documented
            raise ToktoolsError(
                f"{shown(self._directory)}: the CLI may misread this name",
                "set TMPDIR to a directory with a plain name: letters, digits, '.', '_' and '-'",
            )

    def argv(self, cli: Sequence[str]) -> list[str]:
        """Return the command that starts the CLI."""
        return list(cli)

    def local(self, name: str) -> str:
        """Return the path of a file, or of its copy, on this machine.

        Raises ToktoolsError if the CLI has replaced the directory, so that nothing is written elsewhere.
        """
        if os.path.islink(self._directory):
            raise ToktoolsError(f"{shown(self._directory)}: replaced by a link")
        return os.path.join(self._directory, name)

    def path(self, name: str) -> str:
        """Return the path of a file on the CLI's host."""
        return self.local(name)

    def fetch(self, name: str) -> None:
        """Copy a file that the CLI wrote to this machine. Raises ToktoolsError."""

    def send(self, name: str) -> None:
        """Copy a file from this machine to the CLI's host. Raises ToktoolsError."""

    def write(self, name: str, content: bytes) -> None:
        """Create or replace a file on both sides. Raises ToktoolsError."""
        self._put(name, content)
        self.send(name)

    def ending(self, status: int) -> tuple[str, str]:
        """Say how the CLI ended, and what to do about it, if that is known.

        *status* is its exit status, or a signal's number below zero.
        """
        return process.exit_text(status), "name the CLI with --cli" if status in _CANNOT_RUN else ""

    def is_lost(self, status: int) -> bool:
        """Return whether the connection ended so, and not the CLI."""
        del status
        return False

    def clear(self) -> None:
        """Remove the directory, which only a login needs; it may be called again."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            if os.path.lexists(self._directory):
                self._console.warn(f"{shown(self._directory)}: cannot be removed")
            self._directory = ""  # only now: close() removes what a signal has left

    def close(self) -> None:
        """Leave nothing behind."""
        self.clear()

    def _put(self, name: str, content: bytes) -> None:
        path = self.local(name)
        with files.trouble_at(files.display(path)):
            with suppress(FileNotFoundError):
                os.unlink(path)  # the CLI may have put a link to another file there
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(fd, "wb") as file:
                file.write(content)


class SshHost(LocalHost):
    """A host behind one connection that serves every command. ssh asks its questions on the terminal.

    Copies of the files are in a private directory here, and *console* shows what ssh prints. The directory there gets a
    random name, so nothing is read from the host to find it. The shell that starts the CLI creates it, and a shell
    beside that one removes it when the CLI ends, also if the connection is lost.
    """

    def __init__(self, host: str, ssh: Sequence[str], token_dir: str | None, console: Console, seconds: float) -> None:
        super().__init__(None, console)
        self._host = host
        self._name = shown(host)
        self._ssh = list(ssh)
        self._seconds = seconds
        parent = (token_dir or "/tmp").rstrip("/")  # noqa: S108 - a new directory there is its owner's alone
        self._there = f"{parent}/toktools-{secrets.token_hex(8)}"
        self._is_there = False
        self._control = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._said = 0  # lines that ssh and the host have printed while they connect

    def open(self) -> None:
        """Connect, and make sure that commands arrive as they were sent. Raises ToktoolsError."""
        super().open()
        with process.held():
            self._control = mkdtemp(prefix="toktools-", dir="/tmp")  # the path of a socket is short (unix(7))
        # In the command the marker is in two parts, so that a host that only repeats the command does not print it.
        first, second = secrets.token_hex(8), secrets.token_hex(8)
        output, errors, status = self._complete(f'echo {first}""{second}', connects=True)
        if status == _LOST:
            raise self._error("ssh failed", errors)
        if f"{first}{second}".encode() not in output:
            printed = output.strip() or errors.strip() or b"nothing"
            error = self._error("it did not run the command that it was sent; it printed", printed)
            error.hint = "a forced command or login shell there runs something else, or --ssh changes the command"
            raise error
        event(f"connection opened: {self._host}")

    def argv(self, cli: Sequence[str]) -> list[str]:
        """Return the command that starts the CLI there. Raises ToktoolsError if a login shell might misread it."""
        if any(char in word for word in cli for char in "\\!\n"):
            raise ToktoolsError("--cli: a word with a backslash, '!' or a line end cannot be sent to every login shell")
        self._is_there = True
        # The shell that watches is a child of the CLI's process, and as long as that lives, exec finds it as the parent
        # again, whichever user the CLI has become.
        watch = f'if [ $PPID = $1 ]; then sleep 1 && exec sh -c "$0" "$0" $1; else {self._remove()}; fi'
        # The CLI takes the shell's place, so that it gets the signal when the connection is lost. Until the other shell
        # runs, no signal does.
        script = (
            f'trap "" HUP INT QUIT TERM; mkdir -m 700 {self._there} || exit {_CANNOT_CREATE}; set -- {_quoted(watch)}; '
            f'exec sh -c "$1" "$1" $$ </dev/null >/dev/null 2>&1 & '
            f"trap - HUP INT QUIT TERM; exec {' '.join(map(_quoted, cli))}"
        )
        return [*self._command(), "-q", "-tt", "--", self._host, _in_shell(script)]

    def path(self, name: str) -> str:
        """Return the path of a file on the CLI's host."""
        return f"{self._there}/{name}"

    def fetch(self, name: str) -> None:
        """Copy a file that the CLI wrote to this machine. Raises ToktoolsError."""
        path = self.path(name)
        begin, end = secrets.token_hex(16), secrets.token_hex(16)
        read = f"echo {begin}; head -c {MAX_TOKEN_FILE + 1} {path} && echo {end}"
        output = self._run(f"if [ -f {path} ]; then {read}; elif [ -e {path} ]; then echo {begin}; fi")
        _, begin_found, content = output.rpartition(f"{begin}\n".encode())
        content, end_found, _ = content.rpartition(end.encode())
        if not end_found:
            raise ToktoolsError(f"{path}: {'not a regular file' if begin_found else 'no such file or directory'}")
        if len(content) > MAX_TOKEN_FILE:
            raise ToktoolsError(f"{path}: larger than {MAX_TOKEN_FILE} bytes")
        self._put(name, content)

    def send(self, name: str) -> None:
        """Copy a file from this machine to the CLI's host. Raises ToktoolsError."""
        self._run(f"cat >{self.path(name)}", stdin=self.local(name))

    def ending(self, status: int) -> tuple[str, str]:
        """Say how the CLI ended, and what to do about it, if that is known."""
        if self.is_lost(status):
            return f"the connection to {self._name} was lost", ""
        if status == _LOST:
            return f"exit status {status}, or killed by a signal", ""
        if status == _CANNOT_CREATE:
            what = f"cannot create the directory {self._there} on {self._name}"
            return what, "name another directory with --token-dir"
        text, hint = super().ending(status)
        return f"not found on {self._name}, or not executable" if hint else text, hint

    def is_lost(self, status: int) -> bool:
        """Return whether the connection ended so, and not the CLI."""
        return status == _LOST and not self._control_connection("check", _REMOVE_SECONDS)

    def clear(self, seconds: float = _REMOVE_SECONDS) -> None:
        """Remove the directory there and here."""
        if self._is_there:
            try:
                _, errors, status = self._complete(self._remove(), seconds=seconds)
                if status not in {0, _LOST}:
                    self._console.warn(self._error(f"{self._there}: cannot be removed", errors).message)
            except ToktoolsError:
                pass  # it was told already, or the host removes the directory by itself
            self._is_there = False
        super().clear()

    def close(self) -> None:
        """Close the connection too, within two seconds, and leave nothing behind."""
        self._stop()
        self.clear(_CLOSE_SECONDS)
        if not self._control:
            return
        if os.path.exists(f"{self._control}/s"):  # else the user's options name another, for more than this
            self._control_connection("exit", _CLOSE_SECONDS)
        shutil.rmtree(self._control, ignore_errors=True)
        self._control = ""

    def _control_connection(self, command: str, seconds: float) -> bool:
        """Give a command to the ssh that holds the connection, and return whether it did it."""
        argv = [*self._ssh, "-o", f"ControlPath={self._control}/s", "-O", command, "--", self._host]
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(argv, check=False, timeout=seconds, capture_output=True)  # noqa: S603 - the user names it
            return done.returncode == 0
        return False

    def _remove(self) -> str:
        paths = " ".join(self.path(name) for name in (*TOKEN_FILES, NEW_KEY))
        return f"rm -f {paths}; rmdir {self._there}; if [ -e {self._there} ]; then exit 1; fi"

    def _command(self, *, connects: bool = False) -> list[str]:
        """Return ssh with its options: first the user's, which therefore count."""
        # The host gets nothing of ours: neither an agent nor a forwarded port. A later command opens no connection.
        options = ["ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", f"ControlPath={self._control}/s"]
        if connects:
            options += ["ControlMaster=yes", f"ControlPersist={_PERSIST_SECONDS}"]
        else:
            # If the user's options name a proxy, that one reaches no host of this name (RFC 6761).
            options += ["ControlMaster=no", "ProxyCommand=false", "HostName=none.invalid"]
        return [*self._ssh, *(word for option in options for word in ("-o", option))]

    def _run(self, script: str, *, stdin: str = os.devnull) -> bytes:
        """Run shell commands there, and return their output. Raises ToktoolsError."""
        output, errors, status = self._complete(script, stdin=stdin)
        if self.is_lost(status):
            raise ToktoolsError(self.ending(status)[0])
        if status:
            error = self._error(process.exit_text(status), errors)
            if status == _LOST:
                error.hint = "sshd there may allow only one session (MaxSessions), but two are needed"
            raise error
        return output

    def _complete(
        self, script: str, *, stdin: str = os.devnull, connects: bool = False, seconds: float | None = None
    ) -> tuple[bytes, bytes, int]:
        """Run a shell's commands there, and return their output, their standard error and their exit status."""
        argv = [*self._command(connects=connects), "-T", "--", self._host, _in_shell(script)]
        with files.trouble_at(files.display(stdin)), open(stdin, "rb") as source, process.held():
            try:
                self._child = subprocess.Popen(  # noqa: S603 - the user names it
                    argv,
                    stdin=source,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    preexec_fn=process.release,  # noqa: PLW1509 - it takes no lock that a thread may hold
                )
            except OSError as error:
                raise cannot_start(files.display(self._ssh[0]), error, "name it with --ssh") from None
        event(f"{'connecting' if connects else 'command'} on {self._host}: {script}")
        try:
            output, errors, status = self._collect(self._child, seconds, connects=connects)
        finally:
            self._stop()
        event(f"command ended: {process.exit_text(status)}, {len(output)} bytes of output")
        return output, errors, status

    def _collect(
        self, child: subprocess.Popen[bytes], seconds: float | None, *, connects: bool
    ) -> tuple[bytes, bytes, int]:
        """Return what a command writes to standard output and standard error, and its exit status.

        Raises ToktoolsError if it takes too long or writes too much. While ssh connects, it may ask a person, so that
        counts from the time when there is a connection. A background process of ssh may hold its standard error open.
        """
        patience = self._seconds if seconds is None else seconds
        deadline = inf if connects else time.monotonic() + patience
        output = errors = b""
        while True:
            has_ended = child.poll() is not None
            output += _available(child.stdout)
            new_errors = _available(child.stderr)
            errors += new_errors
            if connects:
                self._tell(new_errors)
            if len(output) + len(errors) > _MAX_OUTPUT:
                raise ToktoolsError(f"{self._name}: more than {_MAX_OUTPUT} bytes of output")
            if has_ended:
                return output, errors, child.returncode
            if deadline == inf and os.path.exists(f"{self._control}/s"):
                deadline = time.monotonic() + patience
            if time.monotonic() > deadline:
                raise ToktoolsError(f"{self._name}: no answer within {patience:g} seconds")
            try:
                child.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                pass

    def _tell(self, text: bytes) -> None:
        """Show lines that ssh and the host print on standard error while they connect, up to a limit."""
        for line in text.splitlines():
            self._said += 1
            if self._said <= _MAX_LINES:
                self._console.say(f"{self._name}: {_brief(line)}")
            elif self._said == _MAX_LINES + 1:
                self._console.say(f"{self._name}: more was left out")

    def _error(self, what: str, output: bytes) -> ToktoolsError:
        """Return an error, with what the host printed, if that is anything."""
        printed = _brief(output)
        return ToktoolsError(f"{self._name}: {what}" + (f": {printed}" if printed else ""))

    def _stop(self) -> None:
        """End the ssh that runs, if one does: by SIGTERM first, since it may have turned the terminal's echo off."""
        child = self._child
        if child is None:
            return
        process.end(child, (signal.SIGTERM, signal.SIGKILL))
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
        self._child = None


def cannot_start(name: str, error: OSError, hint: str) -> ToktoolsError:
    """Return the error of a program that cannot be started; the hint names the option that names another."""
    if error.errno in _NO_PROGRAM:
        return ToktoolsError(f"{name}: not found, or not executable", hint)
    return ToktoolsError(f"{name}: cannot be started: {files.reason(error)}")


def is_plain(path: str) -> bool:
    """Return whether a path has only characters that need no quoting for the CLI and for any shell."""
    return path.isascii() and path.translate(_PLAIN).isalnum()


def _available(stream: IO[bytes] | None) -> bytes:
    """Read what is there, without waiting for more."""
    if stream is None:
        return b""
    os.set_blocking(stream.fileno(), False)
    return stream.read(_MAX_OUTPUT + 1) or b""


def _brief(output: bytes) -> str:
    """Return the end of what a host printed, escaped, in one line."""
    lines = (shown(line.strip()) for line in output.decode(errors="replace").splitlines())
    return " / ".join(filter(None, lines))[-_MAX_SHOWN:]


def _quoted(word: str) -> str:
    """Quote *word* for sh(1) without single quotes, which enclose the whole script."""
    if is_plain(word):
        return word
    return '"' + "".join(f"\\{char}" if char in '"$`' else char for char in word) + '"'


def _in_shell(script: str) -> str:
    """Return a command for the login shell there, which may be csh(1) or fish(1) too: sh(1) with the script."""
    return f"exec sh -c {shlex.quote(script)}"

"""A program in a pseudo-terminal, whose other end is ours, or the user's terminal."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Sequence

from toktools.errors import ToktoolsError
from toktools.system import files, process, terminal
from toktools.system.prompt import TERMINAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.login.recording import Recording

_CHUNK = 1 << 16
_POLL_SECONDS = 0.5  # another process may hold the terminal open after the program's end
_SUSPEND = b"\x1a"  # Ctrl-Z


class Pty:
    """A pseudo-terminal with a program in it, once start() has been called."""

    def __init__(self, rows: int, columns: int) -> None:
        self.recording: Recording | None = None
        self._size = rows, columns
        self._fd = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._typed = b""
        """Keys of the user that the program has no room for yet."""

    def start(self, argv: Sequence[str]) -> int:
        """Start the program, and return its process ID. Raises OSError if that is not possible."""
        with process.held():
            self._fd, line = os.openpty()
            try:
                self._resize(*self._size)
                os.set_blocking(self._fd, False)
                self._process = subprocess.Popen(  # noqa: S603 - the user names it
                    list(argv),
                    stdin=line,
                    stdout=line,
                    stderr=line,
                    start_new_session=True,
                    preexec_fn=_take_terminal,  # noqa: PLW1509 - it takes no lock that a thread may hold
                )
            finally:
                os.close(line)
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor of our end."""
        return self._fd

    def read(self, seconds: float) -> bytes | None:
        """Return the program's next output, or None at its end.

        Return nothing if none comes within *seconds*, or half a second if that is less.
        """
        if not terminal.wait([self._fd], [], max(0.0, min(seconds, _POLL_SECONDS)))[0]:
            gone = self.has_ended() and not terminal.wait([self._fd], [], 0)[0]
            return None if gone else b""
        try:
            output = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:  # nobody has the other end open any more
            return None
        if self.recording:
            self.recording.output(output)
        return output or None

    def write(self, keys: bytes) -> bool:
        """Type *keys*, and return whether there was room for all of them."""
        try:
            return not keys or self._type(keys) == len(keys)
        except BlockingIOError:
            return False
        except OSError:  # it has ended, which the next read() shows
            return True

    def mode(self) -> tuple[bool, bool]:
        """Return whether the terminal collects lines, and whether it shows what is typed."""
        try:
            flags = termios.tcgetattr(self._fd)[3]
        except termios.error:
            return True, True
        return bool(flags & termios.ICANON), bool(flags & termios.ECHO)

    def has_ended(self) -> bool:
        """Return whether the program has ended."""
        return self._process is None or self._process.poll() is not None

    def wait(self, seconds: float) -> int:
        """Wait for the program's end, then end it, and return its exit status, or a signal's number below zero."""
        if self._process is None:
            return 0
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.close()
        return self._process.returncode

    def close(self) -> None:
        """End the program, if it has not ended, by SIGHUP, SIGTERM or at last SIGKILL."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._process is not None:
            process.end(self._process, (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL))

    def hand_over(self) -> None:
        """Connect the terminal of standard input and output until the program ends.

        The program gets an Enter first, so that it draws its prompt there, and learns of each new size. Ctrl-Z stops
        this program, as a shell's job. Raises ToktoolsError.
        """

        def fit(*_: object) -> None:
            columns, rows = os.get_terminal_size(files.STDIN)
            self._resize(rows, columns)
            if self.recording:
                self.recording.resize(rows, columns)

        before = signal.signal(signal.SIGWINCH, fit)
        try:
            self._relay(b"\r", fit)
        finally:
            signal.signal(signal.SIGWINCH, before)

    def connect(self, text: bytes, until: Callable[[bytes], bool]) -> bool:
        """Show *text* and connect this process's terminal, until the program ends or *until* accepts its output.

        Return whether there is a terminal, with this process in the foreground. Keys typed ahead are discarded.
        Raises ToktoolsError if the terminal goes away.
        """
        try:
            fd = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
        except OSError:
            return False
        try:
            if os.tcgetpgrp(fd) != os.getpgrp():
                return False
            os.write(fd, text)
            terminal.discard_typed_ahead(fd)
            self._relay(b"", source=fd, target=fd, until=until)
            os.write(fd, b"\n")
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _type(self, keys: bytes) -> int:
        """Type as many of the keys as there is room for, and return their number. Raises OSError."""
        is_hidden = self.mode() == (True, False)  # before it: the program may read at once
        count = os.write(self._fd, keys)
        if self.recording:
            if is_hidden:
                self.recording.hide()
            self.recording.input(keys[:count])
        return count

    def _resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _relay(
        self,
        typed: bytes,
        fit: Callable[[], object] = lambda: None,
        *,
        source: int = files.STDIN,
        target: int = files.STDOUT,
        until: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        """Connect a terminal until the program ends or *until* is true; Ctrl-Z stops the job, as in any terminal.

        *typed* are the first keys; *fit* is called at the beginning, and when the job continues.
        """
        self._typed = typed
        try:
            while True:
                fit()
                with terminal.raw(source):
                    is_stopped = self._pass_on(source, target, until)
                if not is_stopped:
                    return
                os.kill(0, signal.SIGTSTP)
        except OSError:
            raise ToktoolsError("the terminal is gone") from None

    def _pass_on(self, source: int, target: int, until: Callable[[bytes], bool]) -> bool:
        """Pass on the program's output and the user's keys, and return whether Ctrl-Z ended it."""
        while True:
            keys = [source] if len(self._typed) < _CHUNK else []
            ready, writable = terminal.wait([self._fd, *keys], [self._fd] if self._typed else [], _POLL_SECONDS)
            if self._fd in ready:
                output = self.read(0)
                files.write(target, output or b"")
                if output is None or until(output):
                    return False
            elif self.has_ended():
                return False
            if writable:
                try:
                    self._typed = self._typed[self._type(self._typed) :]
                except BlockingIOError:
                    pass
                except OSError:  # nobody has the other end open any more
                    return False
            if source in ready:
                pressed = _read_keys(source)
                self._typed += pressed.replace(_SUSPEND, b"")
                if _SUSPEND in pressed:
                    return True


def _read_keys(fd: int) -> bytes:
    """Read keys from the user's terminal. Raises OSError."""
    keys = os.read(fd, _CHUNK)
    if not keys:
        raise OSError  # the terminal is gone, and SIGHUP is ignored
    return keys


def _take_terminal() -> None:
    fcntl.ioctl(files.STDIN, termios.TIOCSCTTY, 0)
    process.release()

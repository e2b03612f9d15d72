"""A program in a terminal of its own, whose other end is ours or, in the end, the user's."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from math import inf

from toktools.errors import ToktoolsError
from toktools.system import files, terminal

_CHUNK = 1 << 16
_LOOK_UP = 0.5
"""Seconds after which a silent terminal's program is looked at: another may hold the terminal open."""
_SOON = 5.0
_KINDLY = 0.5
_SUSPEND = b"\x1a"  # Ctrl-Z
_ESCAPE = b"\x1b"
"""With it a terminal's own answers begin."""
_REDRAWN = 0.15
"""Seconds in which a line editor draws its prompt, and the terminal answers what it asks for that."""


class Program:
    """A program that was started at the other end. Raises OSError where it cannot be."""

    def __init__(self, argv: Sequence[str], rows: int, columns: int) -> None:
        self.flushed = False
        """Whether the program has thrown away what was typed and not yet read (ioctl_tty(2), TIOCPKT)."""
        self._fd, line = os.openpty()
        try:
            self._resize(rows, columns)
            os.set_blocking(self._fd, False)
            fcntl.ioctl(self._fd, termios.TIOCPKT, struct.pack("i", 1))
            self._process = subprocess.Popen(  # noqa: S603 - what the user names
                list(argv),
                stdin=line,
                stdout=line,
                stderr=line,
                start_new_session=True,
                preexec_fn=_take_terminal,  # noqa: PLW1509 - this program has no threads
            )
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(line)

    def read(self, patience: float) -> bytes | None:
        """Return what the program writes next: nothing after so many seconds. None is its end."""
        if not select.select([self._fd], [], [], max(0.0, min(patience, _LOOK_UP)))[0]:
            gone = self._process.poll() is not None and not select.select([self._fd], [], [], 0)[0]
            return None if gone else b""
        try:
            packet = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return b""
        except OSError:  # nobody has the other end open any more
            return None
        if packet[:1] != b"\0":
            self.flushed |= bool(packet and packet[0] & termios.TIOCPKT_FLUSHREAD)
            return b"" if packet else None
        return packet[1:]

    def write(self, keys: bytes, patience: float = 0.0) -> bool:
        """Type keys, and say whether there was room for all of them within so many seconds."""
        deadline = time.monotonic() + patience
        while keys:
            try:
                keys = keys[os.write(self._fd, keys) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                select.select([], [self._fd], [], left)
            except OSError:
                break  # it has ended, which the next reading tells
        return True

    def mode(self) -> tuple[bool, bool]:
        """Say whether the terminal gathers lines, and whether it shows what is typed."""
        try:
            flags = termios.tcgetattr(self._fd)[3]
        except termios.error:
            return True, True
        return bool(flags & termios.ICANON), bool(flags & termios.ECHO)

    def fileno(self) -> int:
        """Return the descriptor where what the program writes can be waited for."""
        return self._fd

    def has_ended(self) -> bool:
        """Say whether the program has ended."""
        return self._process.poll() is not None

    @property
    def is_closed(self) -> bool:
        """Whether it was this program that has ended it."""
        return self._fd < 0

    def connect(self) -> None:
        """Connect the terminal of standard input and output until the program ends, whatever its size becomes.

        The program is given an Enter, so that it draws its prompt there. Ctrl-Z stops this program, as a shell's job.
        """

        def fit(*_: object) -> None:
            columns, rows = os.get_terminal_size(files.STDIN)
            self._resize(rows, columns)

        fcntl.ioctl(self._fd, termios.TIOCPKT, struct.pack("i", 0))
        signal.signal(signal.SIGWINCH, fit)
        try:
            with terminal.raw(files.STDIN, again=fit):
                typed = b"\r"
                if not self.mode()[0]:
                    # A line editor draws its prompt for the new size first, and may ask the terminal where the cursor
                    # is; then it draws the one that comes after the Enter.
                    typed = self._pass_on(b"", _REDRAWN)
                    typed += self._pass_on(b"\r", _REDRAWN)
                self._pass_on(typed)
        except (OSError, termios.error):
            raise ToktoolsError("the terminal is gone") from None
        finally:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)

    def wait(self) -> int:
        """Wait for the end, for a few seconds, and return how it ended: below zero for a signal."""
        try:
            self._process.wait(_SOON)
        except subprocess.TimeoutExpired:
            self.close()
        return self._process.returncode

    def close(self) -> None:
        """End the program, if it has not ended, kindly and then by force."""
        if self._fd >= 0:
            # It is closed before it hangs up: the program's end, which is told by a signal, is then no surprise.
            fd, self._fd = self._fd, -1
            os.close(fd)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                break
            self._process.send_signal(number)
            try:
                self._process.wait(_KINDLY)
            except subprocess.TimeoutExpired:
                pass

    def _resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _pass_on(self, typed: bytes, seconds: float = inf) -> bytes:
        """Pass on what the program writes and the user types, until the program's end.

        Or for some seconds, in which only the terminal's own answers are typed; what else was typed is returned.
        """
        until = time.monotonic() + seconds
        later = b""
        while (left := until - time.monotonic()) > 0:
            keys = [files.STDIN] if len(typed) + len(later) < _CHUNK else []
            ready, writable, _ = select.select([self._fd, *keys], [self._fd] if typed else [], [], min(left, _LOOK_UP))
            try:
                if not (self._show() if self._fd in ready else not self.has_ended()):
                    break
                if writable:
                    typed = typed[os.write(self._fd, typed) :]
            except BlockingIOError:
                pass
            except OSError:  # nobody has the other end open any more
                break
            if files.STDIN in ready:
                new = _typed()
                if seconds == inf or new.startswith(_ESCAPE):
                    typed += new
                else:
                    later += new
        return typed + later

    def _show(self) -> bool:
        """Pass on what the program has written, in one go, but no more than that; say whether there may be more."""
        output = bytearray()
        chunk = b" "
        try:
            while chunk and len(output) < _CHUNK:
                chunk = os.read(self._fd, _CHUNK)  # which are 4 KiB at most, as Linux has it
                output += chunk
        except BlockingIOError:
            pass
        finally:
            files.write_stdout(bytes(output))
        return bool(chunk)


def _typed() -> bytes:
    """Return what is typed at the user's terminal. Ctrl-Z stops the whole job, as the terminal itself would."""
    keys = os.read(files.STDIN, _CHUNK)
    if not keys:
        raise OSError  # the terminal is gone, and SIGHUP is ignored
    if _SUSPEND in keys:
        os.kill(0, signal.SIGTSTP)
    return keys.replace(_SUSPEND, b"")


def _take_terminal() -> None:
    fcntl.ioctl(files.STDIN, termios.TIOCSCTTY, 0)

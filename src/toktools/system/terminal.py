"""What is asked of a person at a terminal: the whole line, whatever the terminal's mode, one question at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EINTR, ENOTSUP

from toktools.errors import ToktoolsError
from toktools.system import signals

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import Any

    Modes = list[Any]
    """What tcgetattr(3) returns: the flags for input, output, the line and the rest, two speeds, and the characters."""

OWN = "/dev/tty"
"""The terminal of this process, whatever its standard streams are."""
MAX_LINE = 4094
"""Bytes of the longest line: Linux keeps one more, and drops what is typed after it."""
_LOOK_UP = 0.2
"""Seconds after which a signal that came just before the waiting, or another program's mode, is seen."""
_PAUSE = 0.05
"""Seconds between two looks whether another process is done."""
_FLAGS = range(4)
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _CHARACTERS = 0, 1, 2, 3, 6
_PTY_MAJORS = range(136, 143 + 1)  # Linux, Documentation/admin-guide/devices.txt


def exists() -> bool:
    """Say whether there is a terminal to ask a person at."""
    try:
        os.close(_open(OWN))
    except OSError:
        return False
    return True


def ask(question: str, show: Callable[[bytes], object] | None = None, *, path: str = OWN, hidden: bool = True) -> bytes:
    """Put a question, and return the line that is typed at a terminal: its own, or the one at a path.

    The line ends with its newline, or without one where Ctrl-D ended it. With hidden, the echo is off, and what was
    typed before the question, or stands there after the answer, is thrown away: nobody else reads a half of it. The
    question goes to the terminal, or to a function that shows it. It is put again after a stop, and where another
    program has changed the modes. Raises OSError, and ToktoolsError for a line of more than MAX_LINE bytes; and what a
    handler of SIGCHLD raises, but only while the answer is waited for.
    """
    with signals.masked(signal.SIG_BLOCK, signal.SIGCHLD):
        return _ask(question, show, path, hidden=hidden) or b""


def ask_unless(other: int, until: float, show: Callable[[bytes], object], *, hidden: bool) -> bytes | None:
    """Put a question as ask() does, but return None once there is something to read elsewhere, or it is too late.

    Until then, as time.monotonic() tells it. What was typed before the question is thrown away, hidden or not.
    """
    with signals.masked(signal.SIG_BLOCK, signal.SIGCHLD):
        return _ask("", show, OWN, hidden=hidden, discard=True, others=(other,), until=until)


def is_in_front() -> bool:
    """Say whether there is a terminal to ask a person at, and the asking would not stop the job."""
    try:
        fd = _open(OWN)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


def _ask(  # noqa: PLR0913 - each is a word of the question
    question: str,
    show: Callable[[bytes], object] | None,
    path: str,
    *,
    hidden: bool,
    discard: bool = False,
    others: tuple[int, ...] = (),
    until: float | None = None,
) -> bytes | None:
    from select import select
    from time import monotonic

    fd = _open(path)
    line = b""

    def say(text: bytes) -> None:
        if show:
            show(text)
        else:
            os.write(fd, text)

    def put() -> None:
        nonlocal line
        line = b""
        turn.take()
        # The echo comes before the question: who sees the question may answer at once.
        say(question.encode(errors="replace"))

    try:
        turn = _Turn(fd, _silent_line if hidden else _line, discard=hidden or discard)
        with turn.kept(again=put):
            put()
            while not line.endswith(b"\n"):
                with signals.masked(signal.SIG_UNBLOCK, signal.SIGCHLD):
                    ready = select([fd, *others], [], [], _LOOK_UP)[0]
                if not turn.has_modes():
                    put()
                elif fd not in ready and (ready or (until is not None and monotonic() >= until)):
                    return None
                elif ready:
                    chunk = _read(fd)
                    if chunk == b"":
                        say(b"\n")  # Ctrl-D does not end the line
                        break
                    line += chunk or b""
                    if len(line.removesuffix(b"\n")) > MAX_LINE:
                        raise ToktoolsError(
                            f"the line has more than {MAX_LINE} bytes, and a terminal cuts off the rest"
                        )
            return line
    finally:
        os.close(fd)


@contextmanager
def raw(fd: int, again: Callable[[], None]) -> Iterator[None]:
    """Let every key of a terminal through as it is, until the block is done.

    Begin by doing it again: that comes too when the process has been stopped and goes on. Raises OSError.
    """
    turn = _Turn(fd, _raw, discard=False)

    def go_on() -> None:
        turn.take()
        again()

    with turn.kept(again=go_on):
        go_on()
        yield


class _Turn:
    """The right to change a terminal's modes: one process has it at a time, and gives back what it has changed."""

    def __init__(self, fd: int, change: Callable[[Modes], None], *, discard: bool) -> None:
        self._fd = fd
        self._change = change
        self._discard = discard
        self._modes: tuple[Modes, Modes] | None = None
        """Those before the change, and after it."""
        self._taking = True
        self._stopped = False
        """Whether the process was stopped, and went on, while it was taking its turn."""

    @contextmanager
    def kept(self, again: Callable[[], None]) -> Iterator[None]:
        """Give the terminal back after the block, and before whatever ends or stops the process in it.

        Do it again when a process that had its turn goes on after a stop.
        """
        import termios

        def go_on() -> None:
            if self._taking:
                self._stopped = True
            else:
                again()

        self._lock = _Lock(self._fd)
        try:
            with signals.tidied(*signals.STOPS, tidy=self._give_back, again=go_on):
                try:
                    yield
                finally:
                    self._give_back()
        except termios.error as error:
            raise OSError(*error.args) from None
        finally:
            self._lock.close()

    def has_modes(self) -> bool:
        """Say whether the terminal is in the modes that were set."""
        import termios

        now = termios.tcgetattr(self._fd)
        return _changed(now, self._change) == now

    def take(self) -> None:
        """Wait for the foreground, and until no other process has its turn; then set the modes."""
        import termios
        from time import sleep

        self._taking = True
        while True:
            self._stopped = False
            try:
                termios.tcdrain(self._fd)  # changes nothing, and stops a job in the background, as any change would
            except termios.error as error:
                if error.args[0] != EINTR:
                    raise
                continue
            with signals.held(*signals.STOPS):
                if not self._stopped and self._lock.take():
                    earlier = self._modes
                    before = termios.tcgetattr(self._fd)
                    after = _changed(before, self._change)
                    if earlier:  # what another program has changed meanwhile stays so in the end
                        before = _put_back(earlier[0], before, earlier[1])
                    self._modes = (before, after)
                    termios.tcsetattr(self._fd, termios.TCSANOW, after)
                    if not self.has_modes():
                        raise OSError(ENOTSUP, "the echo and the modes cannot be set")
                    if self._discard:
                        termios.tcflush(self._fd, termios.TCIFLUSH)
                    self._taking = False
                    return
            sleep(_PAUSE)

    def _give_back(self) -> None:
        import termios

        # With SIGTTOU held, the modes can be put back from the background too. A handler of SIGCHLD may raise.
        with signals.held(*signals.STOPS, signal.SIGCHLD):
            if self._modes is not None:
                before, after = self._modes
                self._modes = None
                try:
                    if self._discard:
                        termios.tcflush(self._fd, termios.TCIFLUSH)
                    termios.tcsetattr(self._fd, termios.TCSANOW, _put_back(termios.tcgetattr(self._fd), before, after))
                except termios.error:
                    pass  # the terminal is gone
            self._lock.give_back()


def _changed(modes: Modes, change: Callable[[Modes], None]) -> Modes:
    modes = [*modes[:_CHARACTERS], [*modes[_CHARACTERS]]]
    change(modes)
    return modes


def _put_back(now: Modes, before: Modes, after: Modes) -> Modes:
    """Return the modes of now, but for what lies between before and after: that as before."""
    for flags in _FLAGS:
        bits = before[flags] ^ after[flags]
        now[flags] = now[flags] & ~bits | before[flags] & bits
    for index, (old, new) in enumerate(zip(before[_CHARACTERS], after[_CHARACTERS])):
        if old != new:
            now[_CHARACTERS][index] = old
    return now


def _line(modes: Modes) -> None:
    """Lines, which Enter and no other key ends, that can be edited, and every byte as it is typed."""
    import termios as t

    modes[_IFLAG] |= t.ICRNL
    # IUCLC, where there is one, makes small letters of capitals.
    modes[_IFLAG] &= ~(t.IGNCR | t.INLCR | t.ISTRIP | t.PARMRK | getattr(t, "IUCLC", 0))
    modes[_LFLAG] |= t.ICANON | t.ISIG | t.ECHO
    for character in (t.VEOL, t.VEOL2):
        modes[_CHARACTERS][character] = b"\0"


def _silent_line(modes: Modes) -> None:
    import termios as t

    _line(modes)
    modes[_LFLAG] = modes[_LFLAG] & ~t.ECHO | t.ECHONL


def _raw(modes: Modes) -> None:
    """No less than what tty.setraw() changes, in any version of Python."""
    import termios as t

    modes[_IFLAG] &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.INPCK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL)
    modes[_IFLAG] &= ~(t.IXON | t.IXANY | t.IXOFF)
    modes[_OFLAG] &= ~t.OPOST
    modes[_CFLAG] = modes[_CFLAG] & ~(t.CSIZE | t.PARENB) | t.CS8
    modes[_LFLAG] &= ~(t.ECHO | t.ECHOE | t.ECHOK | t.ECHONL | t.ICANON | t.IEXTEN | t.ISIG | t.NOFLSH | t.TOSTOP)
    modes[_CHARACTERS][t.VMIN], modes[_CHARACTERS][t.VTIME] = 1, 0


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_NOCTTY)


def _read(fd: int) -> bytes | None:
    """Return what was typed, empty for the end of input, or None where there is nothing to read now."""
    with signals.held(*signals.STOPS):  # else the system would stop the whole job while the modes are changed
        os.set_blocking(fd, False)  # another program may have taken what was there
        try:
            return os.read(fd, MAX_LINE + 2)
        except BlockingIOError:
            return None
        finally:
            os.set_blocking(fd, True)


class _Lock:
    """A lock that a process has on a terminal, until it gives it back or ends, by SIGKILL too."""

    def __init__(self, fd: int) -> None:
        self._device = os.fstat(fd).st_rdev
        try:
            if self._device == os.stat(OWN).st_rdev:
                with open("/proc/self/stat", "rb") as status:  # proc_pid_stat(5); the name in brackets may have spaces
                    self._device = int(status.read().rpartition(b")")[2].split()[4])
            self._fd = _open(self._path())
        except OSError:
            # Another user's terminal, after su(1), or another system than Linux. Then /dev/tty has to do, one file for
            # all terminals, which are told apart by the byte that is locked.
            self._fd = os.dup(fd)

    def _path(self) -> str:
        major, minor = os.major(self._device), os.minor(self._device)
        if major in _PTY_MAJORS:
            return f"/dev/pts/{minor}"
        return f"/dev/{os.path.basename(os.path.realpath(f'/sys/dev/char/{major}:{minor}'))}"

    def take(self) -> bool:
        """Take it, and say whether that was possible."""
        import fcntl

        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self._device)
        except BlockingIOError:
            return False
        except OSError:
            pass  # a system that has no locks for terminals
        return True

    def give_back(self) -> None:
        import fcntl

        try:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, self._device)
        except OSError:
            pass  # the same

    def close(self) -> None:
        os.close(self._fd)

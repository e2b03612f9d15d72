"""As much of macOS as Python programs see of it, on Linux: PYTHONPATH=tests/macos starts every Python like this.

It takes away what macOS lacks, by the availability that Python's documentation tells, and lets files and terminals
behave as they do there. What is no Python program, such as a shell, notices nothing; "make macos" runs tests with it.
"""

# mypy: ignore-errors
from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import functools
import io
import os
import re
import resource
import select
import signal
import sys
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LACKS: dict[Any, str] = {
    os: r"""(get|set|list|remove)xattr | XATTR_.* | sched_[gs]et(affinity|scheduler|param) | sched_(rr_.*|param)
        | SCHED_(BATCH|IDLE|RESET_ON_FORK|DEADLINE|NORMAL) | memfd_create | MFD_.* | eventfd.* | EFD_.* | timerfd_.*
        | TFD_.* | copy_file_range | splice | SPLICE_.* | posix_f(advise|allocate) | POSIX_FADV_.* | pipe2 | fdatasync
        | [gs]etres[ug]id | P?_?PIDFD.* | pidfd_open | getrandom | GRND_.* | unshare | setns | CLONE_.* | RWF_.*
        | O_(PATH|TMPFILE|DIRECT|NOATIME|LARGEFILE|RSYNC)""",
    fcntl: r"F_OFD_.* | F_[GS]ETPIPE_SZ | F_(ADD|GET)_SEALS | F_SEAL_.* | F_[GS]ET(SIG|LEASE) | F_NOTIFY | DN_.*",
    resource: r"prlimit | RLIMIT_(SIGPENDING|MSGQUEUE|NICE|RTPRIO|RTTIME|OFILE) | RUSAGE_THREAD",
    select: r"epoll | EPOLL.* | POLL(RDHUP|MSG)",
    signal: r"SIG(PWR|STKFLT|POLL|CLD|RTM..) | sig(timedwait|waitinfo) | pidfd_send_signal",
    termios: r"IUCLC | OLCUC | XCASE | VSWTC.? | C(BAUD|BAUDEX|IBAUD|MSPAR) | TC[GS]ET[AS].?",
}
GONE = re.compile(r"/(proc|sys|dev/(pts|shm|full))(/|$)")
DESCRIPTOR = re.compile(r"/dev/(?:fd/(\d+)|std(in|out|err))")
TIOCGPTN = 0x80045430  # which only the program's end of a pseudo-terminal answers

getxattr, lockless = os.getxattr, fcntl.fcntl
for module, pattern in LACKS.items():
    for name in [each for each in dir(module) if re.fullmatch(pattern, each, re.VERBOSE)]:
        delattr(module, name)
if sys.version_info < (3, 13):
    del os.waitid
os.process_cpu_count = os.cpu_count
# Where sysconfig finds how this Python was built.
multiarch = getattr(sys.implementation, "_multiarch", "")
os.environ.setdefault("_PYTHON_SYSCONFIGDATA_NAME", f"_sysconfigdata_{sys.abiflags}_linux_{multiarch}")
sys.platform = "darwin"


def descriptor(path: object, dir_fd: int | None = None) -> int | None:
    """Return the descriptor that a path of /dev is on macOS, where it is no link, or raise if there is no such path."""
    text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    if dir_fd is not None and os.path.samestat(os.fstat(dir_fd), os.stat("/dev/fd")):
        text = f"/dev/fd/{text}"
    if GONE.match(text):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    match = DESCRIPTOR.fullmatch(text)
    return None if match is None else int(match[1]) if match[1] else ("in", "out", "err").index(match[2])


def without_links(module: Any, name: str) -> None:
    """Let a function find no path that macOS lacks, and no link behind /dev/fd/N."""
    real = getattr(module, name)

    @functools.wraps(real)
    def function(path: Any = ".", *more: Any, **options: Any) -> Any:
        fd = descriptor(path, options.get("dir_fd"))
        if name == "readlink" and (fd is not None or path == "/dev/fd"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        if name == "lstat" and path == "/dev/fd":
            return os.stat(path)
        return real(path, *more, **options) if fd is None else os.fstat(fd)

    setattr(module, name, function)


for name in ("stat", "lstat", "readlink", "listdir", "scandir", "access"):
    without_links(os, name)
real_open, real_os_open, real_read = io.open, os.open, os.read


@functools.wraps(real_os_open)
def os_open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """Open a file; /dev/fd/N is a copy of the descriptor, for no more than that was opened for."""
    fd = descriptor(path, dir_fd)
    if fd is None:
        return real_os_open(path, flags, mode, dir_fd=dir_fd)
    allowed = lockless(fd, fcntl.F_GETFL) & os.O_ACCMODE
    if allowed not in {flags & os.O_ACCMODE, os.O_RDWR}:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    return os.dup(fd)


@functools.wraps(real_open)
def io_open(file: Any, *more: Any, opener: Any = None, **options: Any) -> Any:
    """Open a file by os.open(), as above."""
    return real_open(file, *more, opener=opener or (lambda path, flags: os.open(path, flags, 0o666)), **options)


os.open = os_open
io.open = builtins.open = io_open


def on_terminal(real: Any, refuses: Any) -> Any:
    """Return a function of fcntl that takes no record locks on a terminal."""

    @functools.wraps(real)
    def function(fd: Any, command: int, *more: Any) -> Any:
        if command == getattr(fcntl, "F_FULLFSYNC", None):
            return os.fsync(fd)
        if refuses(command) and os.isatty(fd if isinstance(fd, int) else fd.fileno()):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        return real(fd, command, *more)

    return function


LOCKS = {fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW}
fcntl.F_FULLFSYNC = 51
fcntl.lockf = on_terminal(fcntl.lockf, lambda _: True)
fcntl.fcntl = on_terminal(fcntl.fcntl, LOCKS.__contains__)


class Poll:
    """poll(2), which knows no terminals."""

    def __init__(self) -> None:
        self._poll = real_poll()
        self._terminals: set[int] = set()

    def register(self, fd: Any, *events: int) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        if os.isatty(number):
            self._terminals.add(number)
        else:
            self._poll.register(number, *events)

    modify = register

    def unregister(self, fd: Any) -> None:
        number = fd if isinstance(fd, int) else fd.fileno()
        if number in self._terminals:
            self._terminals.remove(number)
        else:
            self._poll.unregister(number)

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        found = self._poll.poll(0 if self._terminals else timeout)
        return found + [(fd, select.POLLNVAL) for fd in self._terminals]


real_poll = select.poll
select.poll = Poll


def read(fd: int, size: int) -> bytes:
    """Read; where nobody has a pseudo-terminal open any more is the end of a file, and no error."""
    try:
        return real_read(fd, size)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        try:
            fcntl.ioctl(fd, TIOCGPTN, b"1234")
        except OSError:
            raise error from None
        return b""


os.read = read


class AccessControlList:
    """acl_get(3): a list, which is the one of POSIX here, or None."""

    restype: object = None

    def __call__(self, fd: int) -> int | None:
        try:
            return len(getxattr(fd, "system.posix_acl_access"))
        except OSError:
            return None


def symbol(library: ctypes.CDLL, name: str) -> Any:
    """Return what a library has of this name."""
    return AccessControlList() if name == "acl_get_fd" else real_symbol(library, name)


real_symbol = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = symbol

"""A Python that has loaded all of toktools, and forks a command where a test starts one.

What a command does is the same in a fork as in a Python of its own: it has its own arguments, environment, folder and
descriptors, its door plate is run from the first line on, and it is a child of the test's. Only its start is not:
nothing has to be loaded, which is nine tenths of the time that most commands take.

A shell script that has doors() on its path has its commands forked too. They are no children of the script's: each
has a door that waits for it, and a signal to the script's group does not reach them.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import gc
import json
import marshal
import os
import platform
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NUMBER = struct.Struct("i")
_CLONE_PARENT = 0x8000
_ABOVE = 100  # all descriptors that the server has are below
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine()) if sys.platform == "linux" else None
_NOTICED = ("PYTHON", "LC_", "LANG", "LD_", "COVERAGE_", "OPENSSL_", "TZ")
_OPTIONS = {"cwd", "env", "stdin", "stdout", "stderr", "umask", "start_new_session", "terminal", "bufsize"}


def start(
    folder: Path, env: Mapping[str, str], words: Sequence[str], options: dict[str, Any]
) -> subprocess.Popen[bytes] | None:
    """Fork a command, or a line of Python, of an installation; None where it would tell a fork from a start."""
    place, name = os.path.split(words[0])
    if (
        _SYS_CLONE is None
        or "COVERAGE_PROCESS_START" in env
        or not (place == str(folder) or (not place and _leads(options["env"]["PATH"], folder)))
        or not (name.startswith("tok-") or (name == "python" and words[1] == "-c"))
        or not options.keys() <= _OPTIONS
        or _read_at_the_start(options["env"]) != _read_at_the_start(env)
    ):
        return None
    return _Started(_of(folder, env), [str(folder / name), *words[1:]], **options)


def _leads(path: str, folder: Path) -> bool:
    """Say whether a path begins with an installation, or with the doors to it."""
    places = path.split(os.pathsep)
    warm = _WARM.get(folder)
    return str(folder) in places[: 2 if warm and places[0] == str(warm.doors) else 1]


def doors(folder: Path, env: Mapping[str, str]) -> str:
    """Return what goes before a path so that a script's commands are forks: nothing, where that cannot be."""
    if _SYS_CLONE is None or "COVERAGE_PROCESS_START" in env:
        return ""
    return f"{_of(folder, env).doors}{os.pathsep}"


def _of(folder: Path, env: Mapping[str, str]) -> _Warm:
    if folder not in _WARM:
        _WARM[folder] = _Warm(folder, env)
    return _WARM[folder]


def load(folder: Path, env: Mapping[str, str], *modules: str) -> None:
    """Load more of what commands import."""
    if _SYS_CLONE is not None and "COVERAGE_PROCESS_START" not in env:
        _of(folder, env).load(modules)


def end() -> None:
    """End all that fork; what they have forked does as it likes."""
    while _WARM:
        _WARM.popitem()[1].close()


class _Warm:
    """A Python that forks, for the commands of an installation."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        # A socket's name must be short (unix(7)), and TMPDIR need not be.
        self.doors = Path(tempfile.mkdtemp(prefix="warm-", dir="/tmp"))
        first = {os.fsencode(name): os.fsencode(text) for name, text in _read_at_the_start(env).items()}
        noticed = tuple(map(os.fsencode, _NOTICED))
        (self.doors / "how").write_bytes(marshal.dumps((os.fsencode(folder), first, noticed)))
        door = f"#!{Path(sys.executable).resolve()} -IS\n{Path(__file__).with_name('warm_door.py').read_text()}"
        for command in folder.glob("tok-*"):
            (self.doors / command.name).write_text(door)
            (self.doors / command.name).chmod(0o755)
        self._socket, theirs = socket.socketpair()
        with theirs, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.doors / "socket"))
            listener.listen(100)
            fds = [theirs.fileno(), listener.fileno()]
            self._server = subprocess.Popen(
                [folder / "python", __file__, folder, *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
                env=dict(env),
            )

    def load(self, modules: Sequence[str]) -> None:
        self._ask([], {"load": modules})

    def fork(self, descriptors: Sequence[int], **how: Any) -> int:
        """Fork what has three descriptors; return its number."""
        return self._ask(descriptors, how)

    def _ask(self, descriptors: Sequence[int], what: dict[str, Any]) -> int:
        content = json.dumps(what).encode()
        passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self._socket.sendmsg([_NUMBER.pack(len(content))], passed)
        self._socket.sendall(content)
        number: int = _NUMBER.unpack(self._socket.recv(_NUMBER.size, socket.MSG_WAITALL))[0]
        return number

    def close(self) -> None:
        self._socket.sendall(_NUMBER.pack(0))
        self._socket.close()
        self._server.wait(120)
        shutil.rmtree(self.doors)


_WARM: dict[Path, _Warm] = {}


class _Started(subprocess.Popen[bytes]):
    """A process that was forked, which is used as any other."""

    def __init__(self, warm: _Warm, words: Sequence[str], **options: Any) -> None:
        self._warm = warm
        self._how = {name: options.pop(name) for name in ("umask", "start_new_session", "terminal") if name in options}
        super().__init__(words, **options)

    def _execute_child(self, words: Sequence[str], *rest: Any) -> None:
        """Fork, for Popen, which has made the pipes."""
        cwd, env, pipes = rest[4], rest[5], rest[9:15]
        given = [fd if fd >= 0 else number for number, fd in enumerate((pipes[0], pipes[3], pipes[5]))]
        self.pid = self._warm.fork(given, words=words, cwd=os.fspath(cwd or "."), env=dict(env), **self._how)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined] # Popen's own


def _read_at_the_start(env: Mapping[str, str]) -> dict[str, str]:
    """What of an environment only a Python that starts takes notice of."""
    return {name: text for name, text in env.items() if name.startswith(_NOTICED)}


def _load() -> None:
    """Import what the commands may import, but for the rarest (boto3, pkcs11)."""
    import toktools

    for module in walk_packages(toktools.__path__, "toktools."):
        if module.name not in {"toktools.__main__", "toktools.keys.awskms", "toktools.keys.pkcs11"}:
            import_module(module.name)
    for name in ("cryptography.hazmat.primitives.serialization.pkcs12", "difflib", "resource", "sqlite3", "threading"):
        import_module(name)
    gc.collect()
    gc.freeze()  # else a child's first collection would copy it all


def _fork_for_the_parent() -> int:
    """Fork, and let the child be one of this process's parent, which alone can wait for it."""
    python = ctypes.PyDLL(None)
    python.PyOS_BeforeFork()
    number: int = python.syscall(_SYS_CLONE, ctypes.c_long(_CLONE_PARENT | signal.SIGCHLD), None, None, None, None)
    if number:
        python.PyOS_AfterFork_Parent()
    else:
        python.PyOS_AfterFork_Child()
    return number


class _Server:
    """Forks a command for each request: those of the tests, and those of the doors, for whom it waits as well."""

    def __init__(self, folder: str, tests: socket.socket, listener: socket.socket) -> None:
        self._folder, self._tests, self._listener = folder, tests, listener
        self._waiting: dict[int, socket.socket] = {}

    def serve(self) -> None:
        """Serve until the tests send an empty request."""
        ended, end = os.pipe()
        os.set_blocking(end, False)
        signal.set_wakeup_fd(end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        while True:
            wanted: list[Any] = [self._tests, self._listener, ended]
            ready, _, _ = select.select(wanted, [], [])
            if ended in ready:
                os.read(ended, 1000)
                self._reap()
            if self._listener in ready:
                self._open(self._listener.accept()[0])
            if self._tests in ready and not self._answer():
                return

    def _reap(self) -> None:
        """Tell each door whose command has ended."""
        while self._waiting:
            number, status = os.waitpid(-1, os.WNOHANG)
            if not number:
                return
            with self._waiting.pop(number) as door, contextlib.suppress(ConnectionError):
                door.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))

    def _open(self, door: socket.socket) -> None:
        """Fork what a door stands for."""
        content, descriptors = _received(door)
        if not content:  # it was killed first
            door.close()
            return
        words, env, cwd, umask, numbers = marshal.loads(content)
        words[0] = os.path.join(self._folder, os.path.basename(words[0]))
        number = os.fork()
        if not number:
            self._become(
                descriptors,
                {
                    "words": words,
                    "env": {os.fsdecode(name): os.fsdecode(text) for name, text in env.items()},
                    "cwd": cwd,
                    "umask": umask,
                    "numbers": numbers,
                },
            )
        self._waiting[number] = door
        for fd in descriptors:
            os.close(fd)

    def _answer(self) -> bool:
        """Do what a test wants; return whether there was anything."""
        content, descriptors = _received(self._tests)
        if not content:
            return False
        what = json.loads(content)
        number = 0
        for name in what.get("load", ()):
            import_module(name)
        if "words" in what:
            number = _fork_for_the_parent()
            if not number:
                self._become(descriptors, what)
        for fd in descriptors:
            os.close(fd)
        self._tests.sendall(_NUMBER.pack(number))
        return True

    def _become(self, descriptors: Sequence[int], what: dict[str, Any]) -> NoReturn:
        """Be a command, which knows nothing of this."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _become(descriptors, what)


def _received(connection: socket.socket) -> tuple[bytes, Sequence[int]]:
    """Receive a request, and the descriptors with it."""
    head, passed, _, _ = connection.recvmsg(_NUMBER.size, socket.CMSG_LEN(10 * _NUMBER.size))
    length = _NUMBER.unpack(head)[0] if head else 0
    descriptors = array.array("i")
    for _, _, packed in passed:
        descriptors.frombytes(packed)
    return connection.recv(length, socket.MSG_WAITALL) if length else b"", descriptors


def _become(descriptors: Sequence[int], how: dict[str, Any]) -> NoReturn:
    """Be the command from its first line to its last."""
    words, status = how["words"], 255
    try:
        if how.get("start_new_session"):
            os.setsid()
        if how.get("terminal"):
            os.close(os.open(how["terminal"], os.O_RDWR))  # its leader's first is the session's
        if "umask" in how:
            os.umask(how["umask"])
        os.chdir(how["cwd"])
        above = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ABOVE) for fd in descriptors]
        os.closerange(0, _ABOVE)
        for number, fd in zip(how.get("numbers", (0, 1, 2)), above):
            os.dup2(fd, number)
        os.closerange(_ABOVE, above[-1] + 1)
        os.environ.clear()
        os.environ.update(how["env"])
        if os.path.basename(words[0]) == "python":
            sys.argv[:], sys.path[0] = ["-c", *words[3:]], ""
            exec(words[2], {"__name__": "__main__"})
        else:
            sys.argv[:], sys.path[0] = words, os.path.dirname(words[0])
            runpy.run_path(words[0], run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 - as Python does
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


if __name__ == "__main__":
    _load()
    _Server(sys.argv[1], *(socket.socket(fileno=int(fd)) for fd in sys.argv[2:])).serve()

"""A Python that has loaded all of toktools, and forks a command where a test starts one.

What a command does is the same in a fork as in a Python of its own: it has its own arguments, environment, folder and
descriptors, its door plate is run from the first line on, and it is a child of the test's. Only its start is not:
nothing has to be loaded, which is nine tenths of the time that most commands take.
"""

from __future__ import annotations

import array
import ctypes
import gc
import json
import os
import platform
import runpy
import signal
import socket
import struct
import subprocess
import sys
from importlib import import_module
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_NUMBER = struct.Struct("i")
_CLONE_PARENT = 0x8000
_SYS_CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine()) if sys.platform == "linux" else None
_OPTIONS = {"cwd", "env", "stdin", "stdout", "stderr", "umask", "start_new_session", "terminal", "bufsize"}


def start(
    folder: Path, env: Mapping[str, str], words: Sequence[str], options: dict[str, Any]
) -> subprocess.Popen[bytes] | None:
    """Fork a command, or a line of Python, of an installation; None where it would tell a fork from a start."""
    place, name = os.path.split(words[0])
    if (
        _SYS_CLONE is None
        or "COVERAGE_PROCESS_START" in env
        or not (place == str(folder) or (not place and options["env"]["PATH"].startswith(f"{folder}{os.pathsep}")))
        or not (name.startswith("tok-") or (name == "python" and words[1] == "-c"))
        or not options.keys() <= _OPTIONS
        or _read_at_the_start(options["env"]) != _read_at_the_start(env)
    ):
        return None
    return _Started(_of(folder, env), [str(folder / name), *words[1:]], **options)


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
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [folder / "python", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
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
    first = ("PYTHON", "LC_", "LANG", "LD_", "COVERAGE_", "OPENSSL_", "TZ")
    return {name: text for name, text in env.items() if name.startswith(first)}


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


def _serve(connection: socket.socket) -> None:
    """Fork a command for each request, until there is an empty one."""
    while True:
        head, passed, _, _ = connection.recvmsg(_NUMBER.size, socket.CMSG_LEN(3 * _NUMBER.size))
        length = _NUMBER.unpack(head)[0] if head else 0
        if not length:
            return
        content = connection.recv(length, socket.MSG_WAITALL)
        descriptors = array.array("i")
        for _, _, packed in passed:
            descriptors.frombytes(packed)
        what = json.loads(content)
        number = 0
        for name in what.get("load", ()):
            import_module(name)
        if "words" in what:
            number = _fork_for_the_parent()
            if not number:
                _become(descriptors, what)
        for fd in descriptors:
            os.close(fd)
        connection.sendall(_NUMBER.pack(number))


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
        for number, fd in enumerate(descriptors):
            os.dup2(fd, number)
        os.closerange(3, max(descriptors) + 1)
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
    with socket.socket(fileno=int(sys.argv[1])) as _connection:
        _serve(_connection)

"""What the tests share: commands in this process or installed, keys made by openssl, and the real tools beside them."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from rehearsing import enrol

from toktools import cli
from toktools.keys.files import KeyInMemory

ROOT = Path(__file__).resolve().parent.parent
AWS_MFA = ROOT / "examples" / "aws-mfa"
UNSIGNED = AWS_MFA / "unsigned-tokens.json"
SIGNED = AWS_MFA / "signed-tokens.json"
OFFICER1_PUB = AWS_MFA / "officer1.pub"
PASS_PHRASE = "correct horse"
PATIENCE_SECONDS = 300  # for what takes a second or two, on a machine with much to do


# Python's modules, and files of the system with where systems have them; all else that tests need is a program.
MODULES = ("bcrypt", "boto3", "pkcs11")
FILES = {
    "bash-completion": ("usr/share/bash-completion/bash_completion",),
    "libsofthsm2.so": ("usr/lib*/softhsm/libsofthsm2.so", "usr/lib/*/softhsm/libsofthsm2.so"),
    "libtss2-tcti-swtpm.so.0": ("usr/lib*/libtss2-tcti-swtpm.so.0", "usr/lib/*/libtss2-tcti-swtpm.so.0"),
    "p11-kit-client.so": ("usr/lib*/pkcs11/p11-kit-client.so", "usr/lib/*/pkcs11/p11-kit-client.so"),
    "pkcs11-spy.so": ("usr/lib*/pkcs11/pkcs11-spy.so", "usr/lib/*/pkcs11/pkcs11-spy.so"),
    "rustyline-9": ("usr/share/cargo/registry/rustyline-9.*",),
}
# Not every user's path leads to what administrators run.
PROGRAMS = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"


def find(name: str) -> str | None:
    """Return the path of a program, a file of the system or a Python module, or None if it is not installed."""
    if name in MODULES:
        spec = importlib.util.find_spec(name)
        return spec.origin if spec else None
    if name in FILES:
        return next((str(path) for pattern in FILES[name] for path in Path("/").glob(pattern)), None)
    return shutil.which(name, path=PROGRAMS)


def need(name: str, *more: str) -> str:
    """Skip the test if something is not installed, which in CI is a failure; return the path of the first."""
    missing = [each for each in (name, *more) if find(each) is None]
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)
    return str(find(name))


def only_if(suitable: object, reason: str) -> None:
    """Skip the test, in CI too, on a system or for a user that nothing one could install makes suitable."""
    if not suitable:
        pytest.skip(reason)


def full_device() -> str:
    """Return the device that takes no byte, as a full disk; without it, skip the test."""
    only_if(os.path.exists("/dev/full"), "this system has no /dev/full")
    return "/dev/full"


@contextmanager
def short_directory() -> Iterator[Path]:
    """A directory for sockets, whose names must be short (unix(7)); that of TMPDIR may be long."""
    directory = Path(tempfile.mkdtemp(prefix="toktools-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)  # the owner of a socket may be about to remove it


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that comes of itself: on a machine with much to do, after a while."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Say whether there is a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@cache
def rsa_key(owner: str = "officer1", size: int = 2048) -> RSAPrivateKey:
    """Somebody's key for tests in this process, made when it is first asked for, which takes a tenth of a second."""
    del owner  # by whose name it is kept
    return generate_private_key(65537, size)


def key_of(owner: str) -> KeyInMemory:
    """Somebody's key as what signs."""
    return KeyInMemory(rsa_key(owner))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: bytes
    err: str

    def check(self, status: int, *said: str) -> Done:
        """Assert the exit status, each of the texts in the messages, and that there is no traceback."""
        assert "Traceback" not in self.err, self.err
        assert self.status == status, self
        for text in said:
            assert text in self.err, self
        return self


@dataclass(frozen=True)
class Shell:
    """A directory to work in, with the installed commands on the path."""

    bin: Path
    cwd: Path

    @property
    def env(self) -> dict[str, str]:
        # The tests may run under make, but a make that they run does not.
        usual = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        return {**usual, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}

    @property
    def unmeasured(self) -> dict[str, str]:
        """The environment for a process that cannot be measured: it is killed, may not write, or counts its imports."""
        return {name: text for name, text in self.env.items() if not name.startswith("COVERAGE_")}

    def start(self, *command: str | Path, terminal: str = "", **more: Any) -> subprocess.Popen[bytes]:
        """Start an installed command, or another program, with its arguments.

        With the name of a terminal it is the leader of a session, which has that terminal.
        """
        words = [str(word) for word in command]
        options: dict[str, Any] = {"cwd": self.cwd, "env": self.env, **more}
        if terminal:  # the leader of a session without one gets the one that it opens first
            options["start_new_session"] = True
            words = ["sh", "-c", ': <>"$0"; exec "$@"', terminal, *words]
        return subprocess.Popen(words, **options)

    def run(
        self,
        *command: str | Path,
        stdin: bytes | int = b"",
        timeout: float = PATIENCE_SECONDS,
        own: bool = False,
        **more: Any,
    ) -> Done:
        """Run a command with its arguments: a filter in this process, unless it wants a process of its own."""
        words = [str(word) for word in command]
        env = more.get("env", self.env)
        if not own and isinstance(stdin, bytes) and more.keys() <= {"cwd", "env"} and _fits_in(words, env):
            return _run_here(words, stdin, more.get("cwd", self.cwd), env)
        pipe = subprocess.PIPE
        given, fed = (stdin, None) if isinstance(stdin, int) else (pipe, stdin)
        with self.start(*command, **{"stdin": given, "stdout": pipe, "stderr": pipe, **more}) as process:
            try:
                out, err = process.communicate(fed, timeout)
            except BaseException:
                process.kill()
                raise
        return Done(process.returncode, out, err.decode(errors="replace"))

    def sh(self, script: str, shell: str = "sh", **more: Any) -> Done:
        """Run a script of shell commands."""
        need(shell)
        return self.run(shell, "-c", script, **more)

    def read(self, name: str) -> bytes:
        return (self.cwd / name).read_bytes()

    def write(self, name: str, content: bytes) -> Path:
        """Write a file; a new one is its owner's alone, since it may be a secret, of which tools would warn."""
        path = self.cwd / name
        with open(path, "wb", opener=lambda file, flags: os.open(file, flags, 0o600)) as new:
            new.write(content)
        return path


_FILTERS = ("tok-extract", "tok-sign", "tok-exec", "tok-merge", "tok-verify", "tok-inspect")


def _fits_in(words: Sequence[str], env: Mapping[str, str]) -> bool:
    """Say whether a command can run in this process.

    A Python that has started does not notice PYTHONPATH, and a PKCS#11 module is loaded once in a process, for good.
    """
    return (
        words[0] in _FILTERS
        and env.get("PYTHONPATH") == os.environ.get("PYTHONPATH")
        and not any("pkcs11:" in word for word in words)
    )


def _run_here(words: Sequence[str], stdin: bytes, cwd: Path, env: Mapping[str, str]) -> Done:
    """Run a filter in this process, with its own standard streams, directory and environment."""
    before = os.getcwd(), dict(os.environ)
    pipes = [os.pipe() for _ in range(3)]
    ends = [pipes[0][0], pipes[1][1], pipes[2][1]]
    saved = [os.dup(fd) for fd in range(3)]
    with ThreadPoolExecutor(3) as pool:
        pool.submit(_feed, pipes[0][1], stdin)
        out, err = (pool.submit(_read, pipe[0]) for pipe in pipes[1:])
        try:
            for fd, end in enumerate(ends):
                os.dup2(end, fd)
                os.close(end)
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(env)
            status = cli.main(words[0].removeprefix("tok-"), words[1:])
        finally:
            for fd, copy in enumerate(saved):
                os.dup2(copy, fd)
                os.close(copy)
            os.chdir(before[0])
            os.environ.clear()
            os.environ.update(before[1])
        return Done(status, out.result(), err.result().decode(errors="replace"))


def _feed(fd: int, content: bytes) -> None:
    with suppress(BrokenPipeError), open(fd, "wb") as pipe:
        pipe.write(content)


def _read(fd: int) -> bytes:
    with open(fd, "rb") as pipe:
        return pipe.read()


@pytest.fixture(autouse=True, scope="session")
def usual_signals() -> Iterator[None]:
    """Let commands die of the signals that kill by default, though nohup or a shell's & had the tests ignore them."""
    deadly = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    ignored = [number for number in deadly if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of this run, which is the same for all workers."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def once(shared: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a directory once a run, however many workers ask for it; those that come later wait until it is whole."""

    def directory_of(name: str, make: Callable[[Path], None]) -> Path:
        directory = shared / f"once-{name}"
        with open(shared / f"once-{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (done := shared / f"once-{name}.done").exists():
                shutil.rmtree(directory, ignore_errors=True)  # of a worker that failed half way
                directory.mkdir()
                make(directory)
                done.touch()
        return directory

    return directory_of


@pytest.fixture(scope="session")
def wheel(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The wheel, built from this checkout."""

    def build(directory: Path) -> None:
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory], cwd=ROOT, check=True
        )

    (path,) = once("wheel", build).glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The directory of the commands that the wheel installs, away from the checkout and its sources."""
    if place := os.environ.get("TOKTOOLS_BIN"):
        return Path(place)  # as make macos does
    return once("installed", lambda home: _install(wheel, home)) / "bin"


def _install(wheel: Path, home: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "-q", "--python", str(home / "bin" / "python")]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True)
    # The libraries come from the environment of the tests; toktools itself is an editable install there, which a
    # path file in a path file does not reach. Coverage starts in every process where the environment asks for it.
    site = next((home / "lib").glob("python*/site-packages"))
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (site / "measured.pth").write_text(
        "import os; 'COVERAGE_PROCESS_START' in os.environ and __import__('coverage').process_startup()\n"
    )


@pytest.fixture
def shell(installed: Path, tmp_path: Path) -> Shell:
    """A fresh directory with AWS's unsigned file as f.json."""
    shutil.copy(UNSIGNED, tmp_path / "f.json")
    return Shell(installed, tmp_path)


@pytest.fixture(scope="session")
def keys(once: Callable[[str, Callable[[Path], None]], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an RSA-2048 key as openssl writes it, in every form, and keys of other kinds."""
    need("openssl")
    # Each worker has a copy of its own: some tests write beside the keys.
    return shutil.copytree(once("keys", _make_keys), tmp_path_factory.mktemp("keys"), dirs_exist_ok=True)


@pytest.fixture(scope="session")
def enrolled(keys: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A rehearsed cluster with officer1 in it, whose key is pkcs8.pem, to be copied."""
    directory = once("enrolled", lambda directory: enrol(directory / "state.json", "officer1", keys / "pkcs8.pem"))
    return directory / "state.json"


def _make_keys(directory: Path) -> None:
    secret = f"-passout 'pass:{PASS_PHRASE}'"
    script = f"""
        set -e
        umask 077
        openssl genrsa -out pkcs8.pem 2048
        openssl genrsa -out other.pem 2048
        openssl rsa -in other.pem -pubout -out other.pub
        openssl rsa -in pkcs8.pem -traditional -out pkcs1.pem
        openssl rsa -in pkcs8.pem -outform DER -out pkcs8.der
        openssl rsa -in pkcs8.pem -traditional -outform DER -out pkcs1.der
        openssl rsa -in pkcs8.pem -traditional -aes256 {secret} -out old-encrypted.pem
        openssl pkcs8 -topk8 -in pkcs8.pem -v2 aes256 {secret} -out pbes2.pem
        openssl pkcs8 -topk8 -in pkcs8.pem -v2 aes256 {secret} -outform DER -out pbes2.der
        openssl rsa -in pkcs8.pem -pubout -out spki.pem
        openssl rsa -in pkcs8.pem -pubout -outform DER -out spki.der
        openssl rsa -in pkcs8.pem -RSAPublicKey_out -out pkcs1.pub
        openssl req -x509 -key pkcs8.pem -subj /CN=officer1 -out cert.pem
        openssl x509 -in cert.pem -outform DER -out cert.der
        openssl genrsa -out rsa1024.pem 1024
        openssl genrsa -out rsa3072.pem 3072
        openssl ecparam -name prime256v1 -genkey -noout -out ec.pem
        openssl genpkey -algorithm ed25519 -out ed25519.pem
    """
    subprocess.run(["sh", "-c", script], cwd=directory, check=True, capture_output=True)

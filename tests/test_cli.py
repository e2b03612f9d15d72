"""What all commands share: messages, exit status, and the process that they run in."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import OFFICER1_PUB, SIGNED, UNSIGNED, Done, Shell, full_device

from toktools import __version__, cli
from toktools.tokens import tokenfile

COMMANDS = ("enroll", "exec", "extract", "inspect", "login", "merge", "rehearse", "sign", "verify")
SIGNATURES = b"".join(b"%s==\n" % (letter * 342) for letter in (b"A", b"Q", b"g"))
each_command = pytest.mark.parametrize("command", COMMANDS)

Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """Run a command in this process, in a directory with AWS's unsigned file as f.json."""
    (tmp_path / "f.json").write_bytes(UNSIGNED.read_bytes())
    monkeypatch.chdir(tmp_path)

    def run_in_process(command: str, *argv: str | Path) -> Done:
        status = cli.main(command, [str(word) for word in argv])
        out, err = capfdbinary.readouterr()
        return Done(status, out, err.decode())

    return run_in_process


@each_command
def test_version(run: Run, command: str) -> None:
    """The version is told as the GNU coding standards ask, and it is the library's."""
    assert run(command, "--version") == Done(0, f"tok-{command} (toktools) {__version__}\n".encode(), "")


def test_help_is_the_same_everywhere(shell: Shell) -> None:
    """Help does not follow the terminal's width, colours or language, which the manual could not follow either."""
    done = shell.run("tok-verify", "--help").check(0)
    elsewhere = {**shell.env, "COLUMNS": "20", "FORCE_COLOR": "1", "PYTHON_COLORS": "1", "LC_ALL": "C"}
    assert shell.run("tok-verify", "--help", env=elsewhere).check(0).out == done.out


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_answer_that_cannot_be_written(shell: Shell, option: str) -> None:
    """A full disk or a closed standard output is trouble, also for help and version."""
    shell.sh(f"tok-sign {option} >&-").check(2, "tok-sign: standard output: bad file descriptor")
    shell.sh(f"tok-sign {option} > {full_device()}").check(2, "tok-sign: standard output: no space left on device")


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("json", ["tok-extract", "f.json"]),
        ("cryptography", ["tok-verify", "-p", str(OFFICER1_PUB), str(SIGNED)]),
        ("cryptography", ["tok-sign", "-k", "officer1.key"]),
    ],
)
def test_missing_library(shell: Shell, library: str, command: list[str]) -> None:
    """A library that is not installed is trouble told in one line."""
    shell.write(f"{library}.py", f"raise ModuleNotFoundError(\"No module named '{library}'\")".encode())
    done = shell.run(*command, stdin=SIGNATURES, env={**shell.env, "PYTHONPATH": str(shell.cwd)})
    said = f"{command[0]}: a part of the installation is missing: No module named '{library}'\n"
    assert done == Done(2, b"", said)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("no\x1b[2J\b.json", r"no\x1b[2J\x08.json"),
        ("no\n.json", "a text of 8 characters, which is not the name of a file"),
        ("no\x9b\u202e\u2028.json", r"no\x9b\u202e\u2028.json"),
        ("no\udcff\udc9b.json", r"no\xff\x9b.json"),
        ("no\\n.json", r"no\\n.json"),
        ("n\u00f6\U0001f600.json", "n\u00f6\U0001f600.json"),
    ],
    ids=ascii,
)
def test_escaped_file_name(run: Run, name: str, escaped: str) -> None:
    """What could move the cursor or break the line, in a file's name, is escaped in the message; letters are not."""
    assert run("merge", name) == Done(2, b"", f"tok-merge: {escaped}: no such file or directory\n")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_bytes_that_are_not_text(shell: Shell, locale: str) -> None:
    """An argument that is not text in the user's locale is repeated with its bytes escaped."""
    env = {**shell.env, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell.run("tok-extract", "--\udcff\udc9b", env=env).check(2, r"option --\xff\x9b not recognized")
    assert done.out == b""
    assert done.err.isascii()


def test_internal_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has thought of is one line and trouble (2), without the text, never the answer no (1)."""

    def broken(_path: str) -> None:
        raise LookupError("hunter2")

    monkeypatch.setattr(tokenfile, "read", broken)
    said = "internal error: LookupError (TOKTOOLS_DEBUG=1 shows where; please report it)\n"
    assert run("extract", "f.json") == Done(2, b"", f"tok-extract: {said}")
    monkeypatch.setenv("TOKTOOLS_DEBUG", "1")
    done = run("extract", "f.json")
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert done.err.endswith(f"LookupError: hunter2\ntok-extract: {said}")


def test_write_error_at_the_close(shell: Shell) -> None:
    """What a file system tells only when standard output is closed is not lost."""
    script = """if True:
        import os, sys
        from toktools import cli
        close = os.close
        os.close = lambda fd: close(fd if fd != 1 else 999)
        sys.argv = ["tok-extract", "f.json"]
        cli.run("extract")
    """
    done = shell.run(shell.bin / "python", "-c", script).check(2)
    assert done.err == "tok-extract: standard output: bad file descriptor\n"


def test_interrupted_while_it_loads(shell: Shell) -> None:
    """Ctrl-C while libraries are imported ends a command by the signal, without a traceback."""
    shell.write("argparse.py", b"import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    env = {**shell.unmeasured, "PYTHONPATH": str(shell.cwd)}
    assert shell.run("tok-extract", "f.json", env=env) == Done(-signal.SIGINT, b"", "")


@pytest.mark.parametrize(
    "command", ["tok-extract f.json", "tok-verify -p o.pub s.json", "tok-inspect f.json", "tok-sign --help"]
)
def test_closed_pipe(shell: Shell, command: str) -> None:
    """A reader that is gone ends a command by SIGPIPE, as it ends cat(1), and nothing is said."""
    shell.write("o.pub", OFFICER1_PUB.read_bytes())
    shell.write("s.json", SIGNED.read_bytes())
    reader, writer = os.pipe()
    os.close(reader)
    with shell.start(*command.split(), stdout=writer, stderr=subprocess.PIPE, env=shell.unmeasured) as process:
        os.close(writer)
        assert process.communicate(timeout=120)[1] == b""
    assert process.returncode == -signal.SIGPIPE


def test_closed_pipe_of_messages(shell: Shell) -> None:
    """Nobody may read the messages; the exit status says it."""
    reader, writer = os.pipe()
    os.close(reader)
    with shell.start("tok-extract", "missing.json", stderr=writer, env=shell.unmeasured) as process:
        os.close(writer)
        assert process.wait(timeout=120) == 2


TROUBLES = {
    "PermissionError(13, 'Permission denied', 'x.py')": "ermission denied",
    "OSError(5, 'Input/output error')": "nput/output error",
    "MemoryError()": "not enough memory",
    "SyntaxError('s\\x1b[2J')": "SyntaxError",
    "SystemExit(1)": "SystemExit",
    "type('PanicException', (BaseException,), {})('at lib.rs:1')": "PanicException",
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("module", ["json.py", "argparse.py", "signal.py"])
def test_trouble_while_loading(shell: Shell, module: str, trouble: str) -> None:
    """Whatever a module does when run() loads it: one line and exit 2, which is no answer."""
    shell.write(module, f"raise {trouble}\n".encode())
    env = {**shell.unmeasured, "PYTHONPATH": str(shell.cwd)}
    done = shell.run("tok-verify", "-p", OFFICER1_PUB, SIGNED, env=env).check(2, TROUBLES[trouble])
    assert done.out == b""
    assert done.err.startswith("tok-verify: ")
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()


def test_reader_does_not_wait_for_the_end_of_the_process(shell: Shell) -> None:
    """The end of the stream comes when the work is done, while the process is still there."""
    script = "import atexit, sys; atexit.register(sys.stdin.read); from toktools.cli import run; run('extract')"
    pipe = subprocess.PIPE
    command = (shell.bin / "python", "-c", script, "f.json")
    with shell.start(*command, stdin=pipe, stdout=pipe, env=shell.unmeasured) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read().count(b"\n") == 3
        time.sleep(0.1)
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=120) == 0

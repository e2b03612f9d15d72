"""What all installed commands share: help, version, start-up, messages."""

import random
import re
import signal
import subprocess
import time

import pytest
from conftest import OFFICER1_PUB, ROOT, SIGNED, Done, Shell, need

from toktools import __version__
from toktools.cli import Tool
from toktools.commands import extract, merge, sign, verify

TOOLS = [tool.TOOL for tool in (extract, merge, sign, verify)]
SIGNATURES = b"".join(b"%s==\n" % (letter * 342) for letter in (b"A", b"Q", b"g"))
each_tool = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)


@each_tool
def test_help_fits_a_screen(shell: Shell, tool: Tool) -> None:
    """Help has the purpose and the example, goes to standard output, and fits 24 lines of 80 columns."""
    done = shell.run(tool.name, "--help").check(0)
    line = tool.command_line
    assert done.err == ""
    lines = done.out.decode("ascii").splitlines()
    assert lines[0].startswith(f"usage: {tool.name} ")
    assert line.purpose in lines
    assert f"  {line.example}" in lines
    assert len(lines) <= 24
    assert [wide for wide in lines if len(wide) > 80] == []


@each_tool
def test_help_is_the_same_everywhere(shell: Shell, tool: Tool) -> None:
    """Help does not follow the terminal's width, colours or language, which the manual could not follow either."""
    done = shell.run(tool.name, "--help").check(0)
    elsewhere = {**shell.env, "COLUMNS": "20", "FORCE_COLOR": "1", "PYTHON_COLORS": "1", "LC_ALL": "C"}
    assert shell.run(tool.name, "--help", env=elsewhere).check(0).out == done.out


@each_tool
def test_version(shell: Shell, tool: Tool) -> None:
    """The version is told as the GNU coding standards ask, and it is the library's."""
    done = shell.run(tool.name, "--version").check(0)
    assert (done.out.decode(), done.err) == (f"{tool.name} (toktools) {__version__}\n", "")


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("orjson", ["tok-extract", "f.json"]),
        ("orjson", ["tok-merge", "f.json"]),
        ("orjson", ["tok-verify", "-p", str(OFFICER1_PUB), str(SIGNED)]),
        ("cryptography", ["tok-verify", "-p", str(OFFICER1_PUB), str(SIGNED)]),
        ("cryptography", ["tok-sign", "-k", "officer1.key"]),
        ("cryptography", ["tok-merge", "-p", str(OFFICER1_PUB), "f.json"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_missing_library(shell: Shell, library: str, command: list[str]) -> None:
    """A library that is not installed is trouble told in one line."""
    shell.write(f"{library}.py", f"raise ModuleNotFoundError(\"No module named '{library}'\")".encode())
    done = shell.run(*command, stdin=SIGNATURES, env={**shell.env, "PYTHONPATH": str(shell.cwd)})
    done.check(2, f"a part of the installation is missing: No module named '{library}'")
    assert (len(done.err.splitlines()), done.out) == (1, b"")


@pytest.mark.parametrize(
    "command",
    [["tok-extract"], ["tok-merge"], ["tok-verify", "-p", str(OFFICER1_PUB)], ["tok-verify", "-p"], ["tok-sign", "-k"]],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("no\x1b[2J\r.json", r"no\x1b[2J\r.json"),
        ("no\n.json", r"no\n.json"),
        ("no\x9b\u202e\u2028.json", r"no\x9b\u202e\u2028.json"),
        ("no\udcff\udc9b.json", r"no\xff\x9b.json"),
        ("no\\n.json", r"no\\n.json"),
        ("n\u00f6\U0001f600.json", "n\u00f6\U0001f600.json"),
    ],
    ids=ascii,
)
def test_escaped_file_name(shell: Shell, command: list[str], name: str, escaped: str) -> None:
    """What could move the cursor or break the line, in a file's name, is escaped in the message; letters are not."""
    done = shell.run(*command, name, *(["f.json"] if command[-1] == "-p" else [])).check(2)
    assert done.err == f"{command[0]}: {escaped}: no such file or directory\n"


def test_escaped_file_name_in_an_answer(shell: Shell) -> None:
    """The name is escaped in tok-verify's own lines as well, which go to standard output."""
    name = "\x1b[2J\n\udcff.json"
    (shell.cwd / name).write_bytes(SIGNED.read_bytes())
    done = shell.run("tok-verify", "-p", OFFICER1_PUB, name).check(0)
    assert done.out.decode() == "".join(rf"\x1b[2J\n\xff.json: token {number}: OK" + "\n" for number in (1, 2, 3))


@pytest.mark.parametrize(
    "command",
    [
        ["tok-extract"],
        ["tok-merge", "f.json"],
        ["tok-sign", "-k", "officer1.key"],
        ["tok-verify", "-p", "officer1.pub"],
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_bytes_that_are_not_text(shell: Shell, command: list[str], locale: str) -> None:
    """An argument that is not text in the user's locale is repeated with its bytes escaped."""
    env = {**shell.env, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell.run(*command, "--\udcff\udc9b", env=env).check(2, r"option --\xff\x9b not recognized")
    assert done.out == b""
    assert done.err.isascii()


@each_tool
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_answer_that_cannot_be_written(shell: Shell, tool: Tool, option: str) -> None:
    """A full disk or a closed standard output is trouble, also for help and version."""
    need("sh")
    shell.sh(f"{tool.name} {option} > /dev/full").check(2, f"{tool.name}: standard output: no space left on device")
    shell.sh(f"{tool.name} {option} >&-").check(2, f"{tool.name}: standard output: bad file descriptor")


@each_tool
def test_usage_error(shell: Shell, tool: Tool) -> None:
    """A usage error is two lines on standard error, the second a hint at --help, and exit status 2."""
    done = shell.run(tool.name, "--bogus").check(2)
    assert done.out == b""
    first, second = done.err.splitlines()
    assert first.startswith(f"{tool.name}: ")
    assert second == f"{tool.name}: hint: try '{tool.name} --help'"


def test_a_defect_is_no_answer(shell: Shell) -> None:
    """What nobody has thought of is one line and trouble (2), never a traceback or the answer no (1)."""
    defect = """
import sys
from toktools.tokens import tokenfile
from toktools.commands import extract
def broken(path): raise LookupError("s3cret")
tokenfile.read = broken
raise SystemExit(extract.main(["f.json"]))
"""
    done = shell.run(shell.bin / "python", "-c", defect).check(2)
    assert done.err == "tok-extract: a defect in this program: LookupError\n"


@pytest.mark.parametrize("file", ["f.json", "missing.json"])
@pytest.mark.parametrize(("call", "own"), [("main()", True), ("main(sys.argv[1:])", False)])
def test_garbage(shell: Shell, file: str, call: str, own: bool) -> None:  # noqa: FBT001 - pytest gives it
    """A tool's own process does not look for garbage among what the libraries make; another does as it did."""
    code = f"""
import gc, sys
from toktools.commands.verify import main
before = gc.get_threshold()
{call}
assert gc.isenabled()
assert (gc.get_threshold()[0] > gc.get_freeze_count() > 10_000) == {own}
assert (gc.get_threshold() == before and not gc.get_freeze_count()) != {own}
"""
    shell.run(shell.bin / "python", "-c", code, "-p", OFFICER1_PUB, file, own=True).check(0)


def test_interrupted_while_it_starts(shell: Shell) -> None:
    """Ctrl-C while the libraries are imported ends a tool by the signal, without a traceback."""
    (shell.cwd / "json").mkdir()
    shell.write("json/__init__.py", b"import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    env = {**shell.unmeasured, "PYTHONPATH": str(shell.cwd)}
    assert shell.run("tok-extract", "f.json", env=env) == Done(-signal.SIGINT, b"", "")


# Interrupts at the n-th import of the tool's own, whichever it is.
INTERRUPT = """
import os, signal, sys
point, started = int(os.environ["POINT"]), []
def hook(event, words):
    if event == "import" and (started or words[0] == "toktools"):
        started.append(words[0])
        if len(started) == point:
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
"""


def test_interrupted_at_any_import(shell: Shell) -> None:
    """Ctrl-C during any of the imports ends a tool by the signal, and the interpreter says nothing."""
    shell.write("sitecustomize.py", INTERRUPT.encode())
    env = {**shell.unmeasured, "PYTHONPATH": str(shell.cwd)}
    for point in range(1, 200):
        done = shell.run("tok-extract", "f.json", env={**env, "POINT": str(point)})
        if done.status == 0:
            break
        assert done == Done(-signal.SIGINT, b"", ""), point
    assert 15 < point < 199


def test_interrupted_at_random(shell: Shell) -> None:
    """Ctrl-C in the first 30 ms is never a traceback of our code; the interpreter's own start is not ours."""
    chance = random.Random(500)
    ours = 0
    deaf = (ROOT / "bin" / "tok-sign").read_text().partition("SIG_DFL")[0].count("\n") + 1
    for _ in range(60):
        pipe = subprocess.PIPE
        words = [str(shell.bin / "tok-sign"), "-k", "no.key"]
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=shell.unmeasured) as process:
            time.sleep(chance.uniform(0, 0.03))
            process.send_signal(signal.SIGINT)
            err = process.communicate(timeout=120)[1].decode()
        # Of what it loads before the first line of any program; earliest of all, it has no traceback yet.
        if "Traceback" in err or "Python" in err or err == "KeyboardInterrupt\n":
            assert "/site-packages/toktools/" not in err
            # Line 0 is what Python does on its way to the first line of a program; the next few let Ctrl-C end it.
            assert all(int(line) <= deaf for line in re.findall(r'/tok-sign", line (\d+),', err)), err
        else:
            assert process.returncode in {-signal.SIGINT, 2}
            ours += 1
    assert ours


TROUBLES = {
    "PermissionError(13, 'Permission denied', 'x.py')": "ermission denied",
    "OSError(5, 'Input/output error')": "nput/output error",
    "MemoryError()": "",
    "SyntaxError('s\\x1b[2J')": "SyntaxError",
    "KeyboardInterrupt()": "KeyboardInterrupt",
    "SystemExit(1)": "SystemExit",
    "SystemExit(0)": "SystemExit",
    "type('PanicException', (BaseException,), {})('at lib.rs:1')": "PanicException",
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("module", ["toktools/__init__.py", "orjson.py", "signal.py"])
def test_trouble_while_loading(shell: Shell, module: str, trouble: str) -> None:
    """Whatever a module of ours, or a library, does when it is loaded: one line and exit 2, which is no answer."""
    (shell.cwd / "toktools").mkdir()
    shell.write(module, f"raise {trouble}\n".encode())
    if module != "toktools/__init__.py":
        (shell.cwd / "toktools").rmdir()
    env = {**shell.unmeasured, "PYTHONPATH": str(shell.cwd)}
    done = shell.run("tok-verify", "-p", OFFICER1_PUB, SIGNED, env=env).check(2, TROUBLES[trouble])
    assert done.out == b""
    assert done.err.startswith("tok-verify: ")
    assert done.err.count("\n") == 1
    assert done.err.rstrip("\n").isprintable()


def test_a_file_that_is_written_is_said_to_be(shell: Shell) -> None:
    """Where standard output fails after the file has its new content, the message says that it has."""
    script = """
import os
from toktools.commands import merge
dup = os.dup
def failing(fd):
    if fd == 1:
        raise OSError(5, "Input/output error")
    return dup(fd)
os.dup = failing
raise SystemExit(merge.main(["-i", "f.json"]))
"""
    done = shell.run(shell.bin / "python", "-c", script, stdin=SIGNATURES)
    assert done == Done(2, b"", "tok-merge: standard output: input/output error; written: f.json\n")
    assert b"AAAA" in shell.read("f.json")


def test_the_reader_does_not_wait_for_the_end_of_the_process(shell: Shell) -> None:
    """The end of the stream comes when the work is done, while the process is still there; a caller keeps its own."""
    script = "import sys; from toktools.commands.extract import main; {}; sys.stdin.read(); sys.stdout.write('more')"
    for call, more in (("main()", b""), ("main(sys.argv[1:])", b"more")):
        command = (shell.bin / "python", "-c", script.format(call), "f.json")
        pipe = subprocess.PIPE
        with shell.start(*command, stdin=pipe, stdout=pipe, env=shell.unmeasured) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if more:
                process.stdin.close()
            assert process.stdout.read().split(b"\n")[3:] == [more]
            process.stdin.close()
            assert process.wait(timeout=120) == 0

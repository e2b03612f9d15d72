"""Pass phrases of key files: from where --passin says, or asked for on the terminal, and never shown."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PASS_PHRASE, Done, Shell, only_if, wait_until
from terminal import terminal
from test_key_files import LINE, openssl_signature


@pytest.fixture(scope="session")
def signature(keys: Path) -> bytes:
    return openssl_signature(keys, "pkcs8.pem")


@pytest.mark.parametrize("content", [b"%s", b"%s\n", b"%s\r\n", b"%s\nanother line\n"])
@pytest.mark.parametrize("source", ["file:phrase", "fd:3"])
def test_the_first_line(shell: Shell, keys: Path, signature: bytes, source: str, content: bytes) -> None:
    """The pass phrase is the first line of a file or a descriptor, without its end."""
    shell.write("phrase", content % PASS_PHRASE.encode())
    script = f"tok-sign -k {keys / 'pbes2.pem'} --passin {source} 3<phrase"
    assert shell.sh(script, stdin=LINE) == Done(0, signature, "")


def test_one_descriptor_with_two_pass_phrases(shell: Shell, keys: Path, signature: bytes) -> None:
    """Only one line is taken from a descriptor: the next reader finds the next line."""
    shell.write("phrases", f"{PASS_PHRASE}\n{PASS_PHRASE}\nrest\n".encode())
    shell.write("line", LINE)
    sign = f"tok-sign -k {keys / 'pbes2.pem'} --passin fd:3 < line"
    assert shell.sh(f"{{ {sign}; {sign}; cat <&3; }} 3<phrases").check(0).out == signature * 2 + b"rest\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pass:s3cret", "every user of the machine can read a secret on the command line"),
        ("stdin", "a secret cannot come from standard input"),
        ("s3cret", "not a source of a secret"),
        ("ENV:s3cret", "not a source of a secret"),
        ("env:", "not a source of a secret"),
        ("fd:s3cret", "not a source of a secret"),
        ("fd:0", "a secret cannot come from standard input"),
        ("file:/dev/stdin", "a secret cannot come from standard input"),
        ("fd:99", "descriptor 99: bad file descriptor"),
        ("env:s3cret", "there is no such environment variable"),
        ("file:/missing", "/missing: no such file or directory"),
        ("file:.", ".: is a directory"),
    ],
)
def test_a_source_that_cannot_be_used(shell: Shell, keys: Path, source: str, said: str) -> None:
    """It is named as such, and not repeated: it may be the pass phrase itself."""
    for words in (["--passin", source], [f"--passin={source}"]):
        done = shell.run("tok-sign", "-k", keys / "pbes2.pem", *words, stdin=LINE)
        done.check(2, f"tok-sign: --passin: {said}")
        assert ("s3cret" in done.err, done.out) == (False, b"")


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("incorrect horse", "wrong pass phrase, or a damaged file"),
        (PASS_PHRASE + " ", "wrong pass phrase, or a damaged file"),
        ("", "the pass phrase is empty"),
        ("\r\n", "the pass phrase is empty"),
        ("s3cret" * 200, "the pass phrase is longer than 1023 bytes"),
    ],
)
def test_a_wrong_pass_phrase(shell: Shell, keys: Path, phrase: str, said: str) -> None:
    """A wrong, empty or endless pass phrase is one line that names the key, and shows neither."""
    shell.write("phrase", phrase.encode())
    private = (keys / "pbes2.pem").read_text().split("\n")[1:-2]
    for source in ("env:PHRASE", "file:phrase"):
        env = {**shell.env, "PHRASE": phrase}
        done = shell.run("tok-sign", "-k", keys / "pbes2.pem", "--passin", source, stdin=LINE, env=env)
        assert done == Done(2, b"", f"tok-sign: {keys / 'pbes2.pem'}: {said}\n")
        assert not any(secret in done.err for secret in ("horse", "s3cret", *private))


@pytest.mark.parametrize(("mode", "verbs"), [(0o600, ""), (0o640, "read"), (0o602, "write"), (0o666, "read and write")])
def test_a_pass_phrase_that_others_can_read_or_write(shell: Shell, keys: Path, mode: int, verbs: str) -> None:
    """A file with a pass phrase gets the warning of a private key."""
    shell.write("phrase", PASS_PHRASE.encode()).chmod(mode)
    done = shell.run("tok-sign", "-k", keys / "pbes2.pem", "--passin", "file:phrase", stdin=LINE).check(0)
    said = f"phrase: other users can {verbs} this secret (mode {mode:04o}; chmod 600 fixes it)"
    assert done.err == (f"tok-sign: warning: {said}\n" if verbs else "")


def test_the_prompt_in_a_pipeline(shell: Shell, keys: Path) -> None:
    """The pass phrase is asked for once, unseen, while the digests come through the pipe."""
    key = keys / "pbes2.pem"
    pipeline = f"tok-extract f.json | tok-sign -k {key} | tok-merge -i -p {keys / 'spki.pem'} f.json"
    with terminal(shell, "sh", "-c", pipeline) as session:
        session.answer(PASS_PHRASE)
        assert session.end() == Done(0, b"", "")
        assert session.shown == f"Enter pass phrase for {key}: \r\n".encode()
        assert session.echoes()


@pytest.mark.parametrize(
    ("answer", "said"),
    [(b"incorrect horse\r", "wrong pass phrase, or a damaged file"), (b"\r", "the pass phrase is empty")],
)
def test_a_wrong_answer(shell: Shell, keys: Path, answer: bytes, said: str) -> None:
    """It is not shown, ends the tool with exit status 2, and leaves a terminal that echoes."""
    with terminal(shell, "tok-sign", "-k", keys / "pbes2.pem", stdin=LINE) as session:
        session.type(answer)
        assert session.end() == Done(2, b"", f"tok-sign: {keys / 'pbes2.pem'}: {said}\n")
        assert b"horse" not in session.shown
        assert session.echoes()


def test_enter_is_an_empty_pass_phrase_of_pkcs12(shell: Shell, keys: Path, signature: bytes) -> None:
    """A PKCS#12 file without encryption is opened by Enter."""
    export = f"umask 077; openssl pkcs12 -export -inkey {keys}/pkcs8.pem -in {keys}/cert.pem"
    shell.sh(f"{export} -keypbe NONE -certpbe NONE -nomac -passout pass: -out k.p12").check(0)
    with terminal(shell, "tok-sign", "-k", "k.p12", stdin=LINE) as session:
        session.type(b"\r")
        assert session.end() == Done(0, signature, "")


@pytest.mark.parametrize(
    ("typed", "number"),
    [(b"half\x03", signal.SIGINT), (b"half\x1c", signal.SIGQUIT), (b"", signal.SIGTERM), (b"", signal.SIGHUP)],
)
def test_a_signal_at_the_prompt(shell: Shell, keys: Path, typed: bytes, number: signal.Signals) -> None:
    """Whatever ends the tool at its prompt, it dies of that signal, without a word, and the terminal echoes again."""
    with terminal(shell, "tok-sign", "-k", keys / "pbes2.pem", stdin=LINE) as session:
        session.type(typed)
        if not typed:
            session.process.send_signal(number)
        assert session.end() == Done(-number, b"", "")
        assert b"half" not in session.shown
        assert session.echoes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_key_is_derived(shell: Shell, keys: Path, number: signal.Signals) -> None:
    """However many rounds a key has, Ctrl-C and TERM end the tool."""
    only_if(sys.platform == "linux", "/proc shows when the library is loaded")
    made = (keys / "pbes2.der").read_bytes()
    # Two bytes of the salt become two of the rounds, which are then 2,147,483,647.
    salt_and_rounds = re.compile(rb"\x04([\x08\x10])..(.+?)\x02\x02\x08\0", re.DOTALL)
    slow = salt_and_rounds.sub(lambda m: bytes([4, m[1][0] - 2]) + m[2] + b"\x02\x04\x7f\xff\xff\xff", made, count=1)
    assert slow != made
    shell.write("slow.der", slow)
    shell.write("phrase", b"x\n")
    command: list[str | Path] = [shell.bin / "tok-sign", "-k", "slow.der", "--passin", "file:phrase"]
    with subprocess.Popen(command, cwd=shell.cwd, env=shell.unmeasured, stderr=subprocess.PIPE) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        wait_until(lambda: "cryptography" in maps.read_text())
        time.sleep(1)
        process.send_signal(number)
        assert (process.communicate(timeout=120)[1], process.returncode) == (b"", -number)

"""Keys and pass phrases: every form signs alike, everything else is one clear line, and no secret is ever shown."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from asn1 import value
from conftest import PASS_PHRASE, SIGNED, UNSIGNED, Done, Shell
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from terminal import terminal

from toktools.system import passphrases

DIGEST = base64.b64decode(json.loads(UNSIGNED.read_bytes())["tokens"][0]["unsigned"])
LINE = base64.b64encode(DIGEST) + b"\n"

PLAIN = ["pkcs8.pem", "pkcs1.pem", "pkcs8.der", "pkcs1.der"]
ENCRYPTED = ["old-encrypted.pem", "pbes2.pem", "pbes2.der"]
PUBLIC = ["spki.pem", "spki.der", "pkcs1.pub", "cert.pem", "cert.der"]
UNFIT = ["ec.pem", "ed25519.pem", "rsa1024.pem"]
OTHERS = ["other.pem", "other.pub", "rsa3072.pem"]


def openssl_signature(keys: Path, name: str) -> bytes:
    """Return what openssl signs the digest with, as the line that tok-sign must write."""
    command: list[str | Path] = ["openssl", "pkeyutl", "-sign", "-inkey", keys / name, "-pkeyopt", "digest:sha256"]
    digest = keys / "digest.bin"
    digest.write_bytes(DIGEST)
    signed = subprocess.run([*command, "-in", digest], check=True, capture_output=True).stdout
    digest.unlink()
    return base64.b64encode(signed) + b"\n"


@pytest.fixture(scope="session")
def signature(keys: Path) -> bytes:
    """Return the line that the key of every private form makes of the digest."""
    return openssl_signature(keys, "pkcs8.pem")


def assert_silent_about(keys: Path, done: Done) -> None:
    """Assert that a message shows neither the pass phrase nor a line of a private key."""
    secrets = [PASS_PHRASE, *(keys / "pkcs8.pem").read_text().split("\n")[1:-2]]
    secrets += (keys / "pbes2.pem").read_text().split("\n")[1:-2]
    assert len(secrets) > 50
    for secret in secrets:
        assert secret not in done.err


def test_every_key_has_its_test(keys: Path) -> None:
    """The tables of this file name every key that the fixture makes."""
    assert sorted(os.listdir(keys)) == sorted([*PLAIN, *ENCRYPTED, *PUBLIC, *UNFIT, *OTHERS])


@pytest.mark.parametrize("name", [*PLAIN, *ENCRYPTED])
def test_every_private_form_signs_as_openssl(shell: Shell, keys: Path, signature: bytes, name: str) -> None:
    """PEM and DER, PKCS#1 and PKCS#8, encrypted or not, all give openssl's bytes, without a word."""
    env = {**shell.env, "PHRASE": PASS_PHRASE}
    done = shell.run("tok-sign", "-k", keys / name, "--passin", "env:PHRASE", stdin=LINE, env=env)
    assert done == Done(0, signature, "")


def test_a_key_from_a_pipe(shell: Shell, keys: Path, signature: bytes) -> None:
    """A key may come from a descriptor other than standard input, as from a shell's <(...)."""
    script = "{ tok-sign -k /dev/fd/3; } 3<pkcs8.pem"
    assert shell.sh(script, cwd=keys, stdin=LINE).check(0).out == signature
    script = 'mkfifo key && { cat "$K" > key & tok-sign -k key; }'
    env = {**shell.env, "K": str(keys / "pkcs8.pem")}
    assert (
        shell.sh(f"exec 4<&0; {script.replace('-k key', '-k key <&4')}", env=env, stdin=LINE).check(0).out == signature
    )


@pytest.mark.parametrize("name", [*PLAIN, *PUBLIC])
def test_every_form_verifies(shell: Shell, keys: Path, signature: bytes, name: str) -> None:
    """-p takes a public key, a certificate or a private key, PEM or DER."""
    signed = shell.run("tok-merge", "-p", keys / name, "-n", "1", "f.json", stdin=signature).check(0).out
    done = shell.run("tok-verify", "-p", keys / name, stdin=signed).check(1)  # tokens 2 and 3 are unsigned
    assert done.out.startswith(b"standard input: token 1: OK\nstandard input: token 2: FAILED: unsigned\n")


@pytest.mark.parametrize("name", ENCRYPTED)
def test_an_encrypted_key_does_not_verify(shell: Shell, keys: Path, name: str) -> None:
    """Nobody is asked for a pass phrase to verify: -p of an encrypted private key is refused, with a hint."""
    for command in (("tok-verify", "-p", keys / name, SIGNED), ("tok-merge", "-i", "-p", keys / name, "f.json")):
        done = shell.run(*command, stdin=LINE)
        done.check(2, f"{name}: an encrypted private key, but only the public key is needed", "hint: openssl rsa")


# Pass phrases from where --passin says.


@pytest.mark.parametrize(
    "content",
    [b"%s", b"%s\n", b"%s\r\n", b"%s\nanother line\n"],
    ids=["no newline", "LF", "CRLF", "more lines"],
)
@pytest.mark.parametrize("source", ["file:phrase", "fd:3", "fd:9"])
def test_a_pass_phrase_from_a_file(shell: Shell, keys: Path, signature: bytes, source: str, content: bytes) -> None:
    """The pass phrase is the first line of a file or a descriptor, without its end, whichever that is."""
    shell.write("phrase", content % PASS_PHRASE.encode())
    redirection = f"{source[3:]}<phrase" if source.startswith("fd") else ""
    done = shell.sh(f"tok-sign -k {keys / 'pbes2.pem'} --passin {source} {redirection}", stdin=LINE)
    assert done == Done(0, signature, "")


def test_one_descriptor_with_two_pass_phrases(shell: Shell, keys: Path, signature: bytes) -> None:
    """Only one line is taken from a descriptor: the next reader finds the next line."""
    shell.write("phrases", f"{PASS_PHRASE}\n{PASS_PHRASE}\nrest\n".encode())
    sign = f"tok-sign -k {keys / 'pbes2.pem'} --passin fd:3 < line"
    shell.write("line", LINE)
    assert shell.sh(f"{{ {sign}; {sign}; cat <&3; }} 3<phrases").check(0).out == signature * 2 + b"rest\n"


@pytest.mark.parametrize("spelling", ["{}", "={}"])
@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("pass:s3cret", "every user of the machine can read a secret on the command line"),
        ("stdin", "a secret cannot come from standard input"),
        ("stdin:s3cret", "a secret cannot come from standard input"),
        ("s3cret", "not a source of a secret"),
        ("x", "not a source of a secret"),
        (":s3cret", "not a source of a secret"),
        ("ENV:s3cret", "not a source of a secret"),
        ("env:", "not a source of a secret"),
        ("file:", "not a source of a secret"),
        ("fd:s3cret", "not a source of a secret"),
        ("fd:-1", "not a source of a secret"),
        ("fd:\N{SUPERSCRIPT TWO}", "not a source of a secret"),
        ("fd:0", "a secret cannot come from standard input"),
        ("file:/dev/stdin", "a secret cannot come from standard input"),
        ("fd:99", "descriptor 99: bad file descriptor"),
        ("fd:99999999999999999999", "not a source of a secret"),
        ("env:s3cret", "there is no such environment variable"),
        ("file:/missing", "/missing: no such file or directory"),
        ("file:.", ".: is a directory"),
    ],
)
def test_a_source_that_is_none(shell: Shell, keys: Path, source: str, said: str, spelling: str) -> None:
    """What is not a usable source is named as such, and not repeated: it may be the pass phrase itself."""
    option = f"--passin{spelling.format(source)}" if spelling.startswith("=") else None
    words = [option] if option else ["--passin", source]
    done = shell.run("tok-sign", "-k", keys / "pbes2.pem", *words, stdin=LINE).check(2, f"tok-sign: --passin: {said}")
    assert "s3cret" not in done.err
    assert done.out == b""
    assert done.err.count("\n") - done.err.count("hint: ") == 1


@pytest.mark.parametrize(
    "words",
    [["-passin", "pass:s3cret"], ["--passin", "env:X", "s3cret"], ["--pass", "s3cret"], ["--passphrase=s3cret"]],
)
def test_a_pass_phrase_in_a_wrong_place(shell: Shell, keys: Path, words: list[str]) -> None:
    """A pass phrase given the way that openssl or a guess would have it is not shown in the message."""
    done = shell.run("tok-sign", "-k", keys / "pbes2.pem", *words, stdin=LINE).check(2)
    assert "s3cret" not in done.err


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("incorrect horse", "wrong pass phrase"),
        (PASS_PHRASE + " ", "wrong pass phrase"),
        ("", "the pass phrase is empty"),
        ("\n", "the pass phrase is empty"),
        ("\r\n", "the pass phrase is empty"),
        ("s3cret" * 200, "the pass phrase is longer than 1024 bytes"),
    ],
)
@pytest.mark.parametrize("name", ENCRYPTED)
def test_a_wrong_pass_phrase(shell: Shell, keys: Path, name: str, phrase: str, said: str) -> None:
    """A wrong, empty or endless pass phrase is one line that names the key and does not show the phrase."""
    shell.write("phrase", phrase.encode())
    for source in ("env:PHRASE", "file:phrase"):
        env = {**shell.env, "PHRASE": phrase}
        done = shell.run("tok-sign", "-k", keys / name, "--passin", source, stdin=LINE, env=env)
        done.check(2, f"tok-sign: {keys / name}: {said}")
        assert done.out == b""
        assert done.err.count("\n") == 1
        for secret in ("horse", "s3cret"):
            assert secret not in done.err


# The prompt.


@pytest.mark.parametrize("name", ENCRYPTED)
def test_the_prompt(shell: Shell, keys: Path, signature: bytes, name: str) -> None:
    """The pass phrase is asked for on the terminal, unseen, while the digests come through the pipe."""
    with terminal(shell, "tok-sign", "-k", keys / name, stdin=LINE) as session:
        session.answer(PASS_PHRASE)
        assert session.end() == Done(0, signature, "")
        assert session.shown == f"Enter pass phrase for {keys / name}: \r\n".encode()
        assert session.echoes()


def test_the_prompt_in_a_pipeline(shell: Shell, keys: Path) -> None:
    """The whole pipeline with an encrypted key asks once, and signs the file."""
    pipeline = f"tok-extract f.json | tok-sign -k {keys / 'pbes2.pem'} | tok-merge -i -p {keys / 'spki.pem'} f.json"
    with terminal(shell, "sh", "-c", pipeline) as session:
        session.answer(PASS_PHRASE)
        assert session.end() == Done(0, b"", "")
        assert session.shown.count(b"Enter") == 1
    shell.run("tok-verify", "-p", keys / "spki.pem", "f.json").check(0)


def test_a_wrong_answer(shell: Shell, keys: Path) -> None:
    """A wrong answer is not shown, ends the tool with exit 2, and leaves a terminal that echoes."""
    with terminal(shell, "tok-sign", "-k", keys / "pbes2.pem", stdin=LINE) as session:
        session.answer("incorrect horse")
        assert session.end() == Done(2, b"", f"tok-sign: {keys / 'pbes2.pem'}: wrong pass phrase\n")
        assert b"horse" not in session.shown
        assert session.echoes()


@pytest.mark.parametrize("typed", [b"\r", b"\x04"], ids=["Enter", "Ctrl-D"])
def test_no_answer(shell: Shell, keys: Path, typed: bytes) -> None:
    """Enter alone or the end of input at the prompt is an empty pass phrase, which no key has."""
    with terminal(shell, "tok-sign", "-k", keys / "pbes2.pem", stdin=LINE) as session:
        session.type(typed)
        session.end().check(2, "the pass phrase is empty")
        assert session.echoes()


@pytest.mark.parametrize(
    ("keys_typed", "number"),
    [(b"half\x03", signal.SIGINT), (b"half\x1c", signal.SIGQUIT), (b"", signal.SIGTERM), (b"", signal.SIGHUP)],
    ids=["Ctrl-C", "Ctrl-backslash", "SIGTERM", "SIGHUP"],
)
def test_a_signal_at_the_prompt(shell: Shell, keys: Path, keys_typed: bytes, number: signal.Signals) -> None:
    """Whatever ends the tool at its prompt, it dies of that signal, without a word, and the terminal echoes again."""
    with terminal(shell, "tok-sign", "-k", keys / "pbes2.pem", stdin=LINE) as session:
        session.type(keys_typed)
        if not keys_typed:
            session.process.send_signal(number)
        assert session.end() == Done(-number, b"", "")
        assert b"half" not in session.shown
        assert session.echoes()


def test_two_signals_at_the_prompt(shell: Shell, keys: Path) -> None:
    """A second signal while the first is dealt with makes no difference, and no traceback."""
    for _ in range(5):
        with terminal(shell, "tok-sign", "-k", keys / "pbes2.pem", stdin=LINE) as session:
            session.process.send_signal(signal.SIGHUP)
            session.process.send_signal(signal.SIGTERM)
            done = session.end()
            assert (-done.status, done.err) in [(signal.SIGHUP, ""), (signal.SIGTERM, "")]
            assert session.echoes()


# Makes the step between showing the prompt and switching the echo off a long one, if there is such a step.
SLOW = """
import sys, termios, time
from toktools import cli

switch = termios.tcsetattr
def slow(*words):
    time.sleep(0.5)
    switch(*words)
termios.tcsetattr = slow
raise SystemExit(cli.main("sign", sys.argv[1:]))
"""


def test_the_echo_is_off_before_the_prompt_appears(shell: Shell, keys: Path) -> None:
    """Who answers as soon as the prompt is there is not shown, and nothing of the answer gets lost."""
    with terminal(shell, shell.bin / "python", "-c", SLOW, "-k", keys / "pbes2.pem", stdin=LINE) as session:
        session.wait_for(b"Enter pass phrase")
        assert not session.echoes()


def test_no_terminal(shell: Shell, keys: Path) -> None:
    """Without a terminal an encrypted key is one clear line and a hint at --passin; the digest is no pass phrase."""
    done = shell.run("tok-sign", "-k", keys / "pbes2.pem", stdin=LINE, start_new_session=True)
    done.check(2, "there is no terminal to ask for the pass phrase", "\ntok-sign: hint: use --passin")
    assert done.err.count("\n") == 2
    assert done.out == b""


# What is no key to sign with.


@pytest.fixture
def folder(keys: Path, tmp_path: Path) -> Path:
    """Return a folder with the keys, and with files that are none."""
    folder = shutil.copytree(keys, tmp_path / "keys")
    pem = (keys / "pkcs8.pem").read_bytes()
    (folder / "empty").touch()
    (folder / "garbage").write_bytes(os.urandom(1000))
    (folder / "cut.pem").write_bytes(pem[: len(pem) // 2])
    (folder / "cut.der").write_bytes((keys / "pkcs1.der").read_bytes()[:-5])
    (folder / "altered.pem").write_bytes(pem.replace(b"MII", b"M!I", 1))
    (folder / "folder").mkdir()
    (folder / "huge").write_bytes(b"A" * (1 << 21))
    return folder


NO_KEYS = {
    "ec.pem": "the key is EC, but CloudHSM takes only RSA keys",
    "ed25519.pem": "the key is Ed25519, but CloudHSM takes only RSA keys",
    "rsa1024.pem": "the key is RSA-1024, but CloudHSM takes RSA-2048",
    "folder": "is a directory",
    "empty": "an empty file, not a key",
    "missing": "no such file or directory",
    "huge": "larger than 1048576 bytes",
}
DAMAGED = "PEM whose body is damaged"
COPY = "only base64 without spaces may be between the lines; copy the file again"
NO_PRIVATE_KEYS = {
    **dict.fromkeys([*PUBLIC, "other.pub"], "a public key, but the private key is needed"),
    **dict.fromkeys(["garbage", "cut.der"], "no private key in PEM or DER"),
    "altered.pem": f"no private key in PEM or DER: {DAMAGED}\ntok-sign: hint: {COPY}",
    "cut.pem": "no private key in PEM or DER: PEM without its END line\ntok-sign: hint: the file is cut short",
    **NO_KEYS,
}
NO_PUBLIC_KEYS = {
    **dict.fromkeys(["garbage", "cut.der"], "no public key, certificate or private key in PEM or DER"),
    "altered.pem": f"no public key, certificate or private key in PEM or DER: {DAMAGED}",
    "cut.pem": "no public key, certificate or private key in PEM or DER: PEM without its END line",
    **NO_KEYS,
}


@pytest.mark.parametrize("name", NO_PRIVATE_KEYS)
def test_what_cannot_sign(shell: Shell, folder: Path, keys: Path, name: str) -> None:
    """What is not an RSA private key of 2,048 bits or more is one clear line."""
    done = shell.run("tok-sign", "-k", folder / name, stdin=LINE)
    assert done == Done(2, b"", f"tok-sign: {folder / name}: {NO_PRIVATE_KEYS[name]}\n")
    assert_silent_about(keys, done)


@pytest.mark.parametrize("name", NO_PUBLIC_KEYS)
def test_what_cannot_verify(shell: Shell, folder: Path, keys: Path, name: str) -> None:
    """What has no RSA public key of 2,048 bits or more is one clear line, and trouble rather than a no."""
    done = shell.run("tok-verify", "-p", folder / name, "f.json")
    hint = {"cut.pem": "the file is cut short", "altered.pem": COPY}.get(name)
    told = f"tok-verify: {folder / name}: {NO_PUBLIC_KEYS[name]}\n"
    assert done == Done(2, b"", f"{told}tok-verify: hint: {hint}\n" if hint else told)
    assert_silent_about(keys, done)
    before = shell.read("f.json")
    done = shell.run("tok-merge", "-i", "-n", "1", "-p", folder / name, "f.json", stdin=b"A" * 342 + b"==\n")
    done.check(2, f"{folder / name}: {NO_PUBLIC_KEYS[name]}")
    assert shell.read("f.json") == before


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("command", ["tok-sign -k", "tok-verify f.json -p"])
def test_a_key_from_standard_input(shell: Shell, keys: Path, command: str, name: str) -> None:
    """Standard input carries digests or a token file, so no key is read from it, by whatever name."""
    done = shell.run(*command.split(), name, stdin=(keys / "pkcs8.pem").read_bytes())
    assert done == Done(2, b"", f"{command.split(maxsplit=1)[0]}: {name}: a key cannot come from standard input\n")


def test_a_larger_key(shell: Shell, keys: Path) -> None:
    """RSA-3072 signs as openssl does, with a warning that AWS documents RSA-2048."""
    done = shell.run("tok-sign", "-k", keys / "rsa3072.pem", stdin=LINE).check(0)
    assert done.out == openssl_signature(keys, "rsa3072.pem")
    said = "the key is RSA-3072; CloudHSM documents only RSA-2048"
    assert done.err == f"tok-sign: warning: {keys / 'rsa3072.pem'}: {said}\n"


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True), (0o610, False)]
)
def test_a_key_that_others_can_read(shell: Shell, keys: Path, signature: bytes, mode: int, warns: bool) -> None:  # noqa: FBT001
    """A private key that group or others can read still signs, with a warning that says how to close it."""
    shutil.copy(keys / "pkcs8.pem", shell.cwd / "officer1.key")
    (shell.cwd / "officer1.key").chmod(mode)
    done = shell.run("tok-sign", "-k", "officer1.key", stdin=LINE).check(0)
    assert done.out == signature
    warning = (
        f"tok-sign: warning: officer1.key: others can read this private key (mode {mode:04o}; chmod 600 closes it)\n"
    )
    assert done.err == (warning if warns else "")


@pytest.mark.parametrize(("mode", "verbs"), [(0o620, "write"), (0o602, "write"), (0o666, "read and write")])
def test_a_key_that_others_can_write(shell: Shell, keys: Path, mode: int, verbs: str) -> None:
    """Who can write a private key can have a user sign with another, so there is a warning too."""
    shutil.copy(keys / "pkcs8.pem", shell.cwd / "officer1.key")
    (shell.cwd / "officer1.key").chmod(mode)
    done = shell.run("tok-sign", "-k", "officer1.key", stdin=LINE).check(0)
    said = f"officer1.key: others can {verbs} this private key (mode {mode:04o}; chmod 600 closes it)"
    assert done.err == f"tok-sign: warning: {said}\n"


@pytest.mark.parametrize(("mode", "verbs"), [(0o600, ""), (0o640, "read"), (0o602, "write"), (0o666, "read and write")])
def test_a_pass_phrase_that_others_can_read_or_write(shell: Shell, keys: Path, mode: int, verbs: str) -> None:
    """A file with a pass phrase gets the warning of a private key."""
    shell.write("phrase", PASS_PHRASE.encode()).chmod(mode)
    shutil.copy(keys / "pbes2.pem", shell.cwd / "locked.pem")
    (shell.cwd / "locked.pem").chmod(0o600)
    done = shell.run("tok-sign", "-k", "locked.pem", "--passin", "file:phrase", stdin=LINE).check(0)
    said = f"phrase: others can {verbs} this secret (mode {mode:04o}; chmod 600 closes it)"
    assert done.err == (f"tok-sign: warning: {said}\n" if verbs else "")


def test_a_variable_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in a variable is there for this process alone, however often an option names it."""
    monkeypatch.setenv("PHRASE", "s3cret")
    sources = [passphrases.source(option, "env:PHRASE") for option in ("--passin", "--password")]
    assert "PHRASE" not in os.environ
    assert subprocess.run(["sh", "-c", "echo ${PHRASE-none}"], capture_output=True, check=True).stdout == b"none\n"
    assert [source("f", "pass phrase") for source in sources] == [b"s3cret", b"s3cret"]


def test_a_public_key_may_be_read_by_all(shell: Shell, keys: Path) -> None:
    """A public key is no secret: tok-verify says nothing of its mode."""
    (keys / "spki.pem").chmod(0o644)
    assert shell.run("tok-verify", "-p", keys / "spki.pem", "f.json").check(1).err == ""


# A key whose numbers do not fit together, in a DER that is written here.

NUMBERS = ["n", "e", "d", "p", "q", "dp", "dq", "qinv"]


def integer(number: int) -> bytes:
    """Return an INTEGER of DER, with the bit before its first that says it is not negative."""
    return value(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def pkcs1(numbers: dict[str, int]) -> bytes:
    """Return an RSAPrivateKey (RFC 8017 appendix A.1.2)."""
    return value(0x30, b"".join(map(integer, [0, *(numbers[name] for name in NUMBERS)])))


@pytest.fixture(scope="session")
def numbers(keys: Path) -> dict[str, int]:
    """Return the numbers of the RSA-2048 key."""
    key = load_der_private_key((keys / "pkcs1.der").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    private = key.private_numbers()
    public = private.public_numbers
    values = [public.n, public.e, private.d, private.p, private.q, private.dmp1, private.dmq1, private.iqmp]
    return dict(zip(NUMBERS, values))


def test_the_encoder(keys: Path, numbers: dict[str, int]) -> None:
    """The encoder of these tests writes openssl's own bytes, so that what it alters is all that is altered."""
    assert pkcs1(numbers) == (keys / "pkcs1.der").read_bytes()


Alteration = Callable[[dict[str, int]], dict[str, int]]
ALTERATIONS: dict[str, Alteration] = {
    "n halved": lambda key: {"n": key["n"] // 2 | 1 << 2047},
    "p and q swapped": lambda key: {"p": key["q"], "q": key["p"], "dp": key["dq"], "dq": key["dp"]},
    "p is n, q is 1": lambda key: {"p": key["n"], "q": 1},
    "q is n, p is 1": lambda key: {"p": 1, "q": key["n"]},
    "e is 1": lambda _: {"e": 1},
    "e is even": lambda _: {"e": 65536},
    "all numbers zero but n": lambda _: dict.fromkeys(NUMBERS[1:], 0),
    "d negative": lambda key: {"d": -key["d"]},
    "n negative": lambda key: {"n": -key["n"]},
    "dp and dq swapped": lambda key: {"dp": key["dq"], "dq": key["dp"]},
    "qinv too large": lambda key: {"qinv": key["qinv"] + key["p"]},
    "a fault in dp": lambda key: {"dp": key["dp"] ^ 1 << 500},
}


def assert_refused(shell: Shell, numbers: dict[str, int], altered: dict[str, int]) -> Done:
    """Assert that a key with altered numbers signs nothing, on one line that shows none of its numbers."""
    shell.write("broken.der", pkcs1({**numbers, **altered})).chmod(0o600)
    done = shell.run("tok-sign", "-k", "broken.der", stdin=LINE).check(2, "tok-sign: broken.der: ")
    assert done.out == b""
    assert done.err.count("\n") == 1
    for number in (*numbers.values(), *altered.values()):
        if number > 1 << 32:
            assert str(number) not in done.err
            assert f"{number:x}"[:16] not in done.err.lower()
    return done


@pytest.mark.parametrize("step", [2, -2])
@pytest.mark.parametrize("name", NUMBERS)
def test_one_number_that_does_not_fit(shell: Shell, numbers: dict[str, int], name: str, step: int) -> None:
    """A key with any one of its numbers a little off is refused as broken before it signs."""
    done = assert_refused(shell, numbers, {name: numbers[name] + step})
    assert done.err == "tok-sign: broken.der: a broken key: its numbers do not fit together\n"


@pytest.mark.parametrize("name", ALTERATIONS)
def test_numbers_that_do_not_fit(shell: Shell, numbers: dict[str, int], name: str) -> None:
    """A key with numbers that contradict each other is refused, whatever the library thinks of it."""
    assert_refused(shell, numbers, ALTERATIONS[name](numbers))


def test_another_private_exponent_that_fits(shell: Shell, numbers: dict[str, int], signature: bytes) -> None:
    """A private exponent modulo (p-1)(q-1), as older tools make it, is as good as the least one."""
    longer = pow(numbers["e"], -1, (numbers["p"] - 1) * (numbers["q"] - 1))
    shell.write("longer.der", pkcs1({**numbers, "d": longer})).chmod(0o600)
    assert shell.run("tok-sign", "-k", "longer.der", stdin=LINE) == Done(0, signature, "")

"""Every stage swapped with the real tools, and the mistakes that openssl lets people make."""

from __future__ import annotations

import json
import os
import shutil
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import PASS_PHRASE, ROOT, Shell, need, only_if

OPENSSL_SIGN = 'openssl pkeyutl -sign -inkey "$KEY" -pkeyopt digest:sha256'

EXTRACT = "tok-extract f.json"
JQ_EXTRACT = "jq -r '.tokens[].unsigned' f.json"
SIGN = 'tok-sign -k "$KEY"'
OPENSSL_LOOP = f'while read -r digest; do echo "$digest" | base64 -d | {OPENSSL_SIGN} | base64 -w0; echo; done'
RAW_LOOP = 'while read -r digest; do echo "$digest" | base64 -d | tok-sign -r -k "$KEY" | base64 -w0; echo; done'
PARALLEL = "parallel --pipe -N1 -k 'tok-sign -k \"$KEY\"'"


class Desk:
    """A directory with f.json, the key in $KEY, and what openssl alone makes of the two."""

    def __init__(self, shell: Shell, key: Path) -> None:
        self.shell = shell
        self.env = {**shell.env, "KEY": str(key)}

    def sh(self, script: str) -> bytes:
        """Run a script that must succeed, and return its output."""
        return self.shell.sh(f"set -e\n{script}", env=self.env).check(0).out

    def digests(self) -> list[bytes]:
        """Read the digests with Python's own json and base64."""
        return [b64decode(token["unsigned"]) for token in json.loads(self.shell.read("f.json"))["tokens"]]

    def openssl_signatures(self) -> list[bytes]:
        """Sign each digest with the documented command."""
        command = (*OPENSSL_SIGN.replace('"$KEY"', self.env["KEY"]).split(), "-in", "digest.bin")
        signatures = []
        for digest in self.digests():
            self.shell.write("digest.bin", digest)
            signatures.append(self.shell.run(*command).check(0).out)
        return signatures

    def golden(self) -> bytes:
        """Return f.json as somebody with an editor would sign it: openssl's signatures between the empty quotes."""
        text = self.shell.read("f.json")
        for signature in self.openssl_signatures():
            text = text.replace(b'"signed": ""', b'"signed": "%s"' % b64encode(signature), 1)
        assert b'"signed": ""' not in text
        return text


@pytest.fixture
def desk(shell: Shell, keys: Path) -> Desk:
    need("base64")
    only_if(sys.platform != "darwin", "base64(1) has other options there")
    return Desk(shell, keys / "pkcs8.pem")


def twelve_tokens() -> bytes:
    """A token file of a cluster of twelve HSMs, as the CloudHSM CLI would write it."""
    digests = [sha256(b"HSM %d" % number).digest() for number in range(12)]
    tokens = [{"unsigned": b64encode(digest).decode(), "signed": ""} for digest in digests]
    return json.dumps({"version": "2.0", "tokens": tokens}, indent=2).encode()


@pytest.mark.parametrize("extract", [EXTRACT, JQ_EXTRACT], ids=["tok-extract", "jq"])
@pytest.mark.parametrize(
    "sign", [SIGN, OPENSSL_LOOP, RAW_LOOP, PARALLEL], ids=["tok-sign", "openssl", "tok-sign -r", "parallel"]
)
def test_any_stages_give_what_openssl_gives(desk: Desk, extract: str, sign: str) -> None:
    """Whichever tools stand in the pipeline, the signed file is the same to the byte."""
    need("jq", "parallel")
    assert desk.sh(f"{extract} | {sign} | tok-merge f.json") == desk.golden()


# One group of lines for each of the three tokens, as AWS documents them.
AWS_STEPS = {
    "as documented": "\n".join(
        f"""
        echo "$(jq -r .tokens[{number - 1}].unsigned f.json)" > token{number}.b64
        base64 -d token{number}.b64 > token{number}.bin
        openssl pkeyutl -sign -inkey "$KEY" -pkeyopt digest:sha256 -keyform PEM -in token{number}.bin \\
            -out token{number}.sig.bin
        base64 -w0 token{number}.sig.bin > token{number}.sig.b64
        """
        for number in (1, 2, 3)
    ),
    "with tok-extract": f"""
        tok-extract -s token f.json
        for f in token*.bin; do {OPENSSL_SIGN} -in "$f" -out "${{f%.bin}}.sig.bin"; done
        for f in token*.sig.bin; do base64 -w0 "$f" > "${{f%.bin}}.b64"; done
    """,
}


@pytest.mark.parametrize("steps", AWS_STEPS.values(), ids=AWS_STEPS)
@pytest.mark.parametrize("form", ["b64", "bin"])
def test_step_by_step(desk: Desk, steps: str, form: str) -> None:
    """AWS's commands, one file a step, end in tok-merge instead of three copy-and-pastes."""
    need("jq")
    desk.sh(steps)
    assert desk.sh(f"tok-merge f.json token*.sig.{form}") == desk.golden()


def test_a_glob_keeps_the_order_of_twelve(desk: Desk) -> None:
    """From ten tokens on the names have leading zeros, so that a shell's glob hands the files over in order."""
    desk.shell.write("f.json", twelve_tokens())
    desk.sh(AWS_STEPS["with tok-extract"])
    assert desk.sh("echo token??.bin").split() == [b"token%02d.bin" % number for number in range(1, 13)]
    assert desk.sh("tok-merge f.json token*.sig.b64") == desk.golden()


# What signs token 2 (token2.bin), and what tok-verify and tok-merge -p say of it.
WRONG_CALLS = {
    "without -pkeyopt": (
        'openssl pkeyutl -sign -inkey "$KEY" -in token2.bin',
        "no DigestInfo was signed, only the bare digest (openssl needs -pkeyopt digest:sha256)",
    ),
    "dgst -sha256": (
        'openssl dgst -sha256 -sign "$KEY" token2.bin',
        "the digest was hashed once more before it was signed",
    ),
    "dgst of the whole file": ('openssl dgst -sha256 -sign "$KEY" f.json', "the signature of another digest, "),
    "PSS": (
        f"{OPENSSL_SIGN} -pkeyopt rsa_padding_mode:pss -in token2.bin",
        "made with PSS padding, not PKCS#1 v1.5",
    ),
    "RSA-3072": (
        'openssl pkeyutl -sign -inkey "$KEYS/rsa3072.pem" -pkeyopt digest:sha256 -in token2.bin',
        "wrong size: 384 bytes, but an RSA-2048 signature has 256",
    ),
}


@pytest.mark.parametrize(("call", "said"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_wrong_calls_are_named(desk: Desk, keys: Path, call: str, said: str) -> None:
    """A signature that openssl made with exit status 0, but of the wrong thing, is refused and its mistake named."""
    need("jq")
    desk.env["KEYS"] = str(keys)
    for number, digest in enumerate(desk.digests(), 1):
        desk.shell.write(f"token{number}.bin", digest)
    desk.shell.write("good.json", desk.golden())
    # Pasted into a good file with jq, since tok-merge itself may refuse it.
    desk.sh(
        f"({call}) > wrong.bin\n"
        'jq --arg wrong "$(base64 -w0 wrong.bin)" ".tokens[1].signed = \\$wrong" good.json > pasted.json'
    )
    verified = desk.shell.run("tok-verify", "-p", desk.env["KEY"], "pasted.json").check(1)
    first, second, third = verified.out.decode().splitlines()
    assert (first, third) == ("pasted.json: token 1: OK", "pasted.json: token 3: OK")
    assert second.startswith(f"pasted.json: token 2: FAILED: {said}")

    merge = ("tok-merge", "-p", desk.env["KEY"], "-o", "never.json", "-n", "2", "f.json", "wrong.bin")
    desk.shell.run(*merge).check(1, f"f.json: token 2: {said}", "; nothing written")
    assert not (desk.shell.cwd / "never.json").exists()


def test_a_failing_openssl_is_caught(desk: Desk) -> None:
    """Where openssl refuses an input of the wrong length, tok-merge sees the empty line and writes nothing."""
    loop = f"while read -r digest; do head -c 31 /dev/zero | {OPENSSL_SIGN} | base64 -w0; echo; done"
    merged = desk.shell.sh(f"{EXTRACT} | {loop} | tok-merge -o never.json f.json", env=desk.env)
    merged.check(2, "invalid digest length", "tok-merge: f.json: standard input: line 1: empty; nothing written")
    assert not (desk.shell.cwd / "never.json").exists()


class Workshop(Desk):
    """A directory of the user's own with the Makefile of the examples and login.json."""

    def make(self, key: str | Path) -> tuple[int, str]:
        done = self.shell.run("make", f"KEY={key}", "login.signed.json", env=self.env)
        assert "Traceback" not in done.err
        return done.status, done.out.decode() + done.err


@pytest.fixture
def workshop(shell: Shell, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    need("make")
    shutil.copy(ROOT / "examples" / "Makefile", shell.cwd)
    shutil.copy(shell.cwd / "f.json", shell.cwd / "login.json")
    # A make that runs the tests hands its own flags down.
    for variable in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(variable, raising=False)
    return Workshop(shell, keys / "pkcs8.pem")


def test_make_signs_once(workshop: Workshop) -> None:
    """The rule makes the signed file that openssl would, and has nothing to do the second time."""
    status, said = workshop.make(workshop.env["KEY"])
    assert status == 0, said
    assert workshop.shell.read("login.signed.json") == workshop.golden()
    status, said = workshop.make("missing.pem")
    assert (status, "is up to date" in said) == (0, True), said


def test_make_says_what_it_makes(workshop: Workshop) -> None:
    """Without a target it says what there is; without the name of the approver it says that this is missing."""
    shell = workshop.shell
    shutil.copy(ROOT / "examples" / "aws-quorum" / "user-management.token", shell.cwd / "admin.token")
    assert b"APPROVER=admin2 ROLE=admin admin.approved.token\n" in shell.run("make", env=workshop.env).check(0).out
    shell.run("make", "admin.approved.token", env=workshop.env).check(2, "APPROVER=... is missing")
    assert not (shell.cwd / "admin.approved.token").exists()


@pytest.mark.parametrize("old", [None, b"an old good target\n"], ids=["no target", "old target"])
@pytest.mark.parametrize("key", ["missing.pem", "login.json"])
def test_make_with_a_broken_key(workshop: Workshop, key: str, old: bytes | None) -> None:
    """A broken or missing key ends make with status 2, leaves no target behind, and an old one as it was."""
    target = workshop.shell.cwd / "login.signed.json"
    if old is not None:
        target.write_bytes(old)
        os.utime(target, (0, 0))  # older than login.json, so that there is something to do
    before = sorted(os.listdir(workshop.shell.cwd))
    status, said = workshop.make(key)
    assert status == 2, said
    assert f"tok-sign: {key}: " in said
    assert sorted(os.listdir(workshop.shell.cwd)) == before
    assert (target.read_bytes() if target.exists() else None) == old


@pytest.mark.parametrize("name", ["$(id>x)`id>x`$HOME", "-r", 'it\'s "a" b', "a;id>x&id>x|id>x>x", "#*\\"])
def test_make_with_any_name(workshop: Workshop, name: str) -> None:
    """Whatever a file is called, no shell expands its name, and no tool takes it for an option."""
    shell = workshop.shell
    shell.write(f"{name}.json", shell.read("f.json"))
    shutil.copy(ROOT / "examples" / "aws-quorum" / "user-management.token", shell.cwd / f"{name}.token")
    words = ("make", f"KEY={workshop.env['KEY']}", "APPROVER=admin2", "--")
    done = shell.run(*words, f"{name}.signed.json", f"{name}.approved.token", env=workshop.env)
    assert (done.status, done.err) == (0, "")
    assert shell.read(f"{name}.signed.json") == workshop.golden()
    public = f"admin2={workshop.env['KEY']}"
    shell.run("tok-verify", "-p", public, "--", f"{name}.approved.token").check(0)
    assert not (shell.cwd / "x").exists()


def test_make_with_pass_phrases(workshop: Workshop, keys: Path) -> None:
    """With PASSIN, several encrypted keys are at work at once, and nobody is asked."""
    shell = workshop.shell
    shell.write("phrase", PASS_PHRASE.encode())
    names = ["one", "two", "three"]
    for name in names:
        shutil.copy(shell.cwd / "f.json", shell.cwd / f"{name}.json")
    words = ("make", "-j3", f"KEY={keys / 'pbes2.pem'}", "PASSIN=file:phrase")
    done = shell.run(*words, *(f"{name}.signed.json" for name in names), start_new_session=True)
    assert (done.status, done.err) == (0, "")
    assert {shell.read(f"{name}.signed.json") for name in names} == {workshop.golden()}

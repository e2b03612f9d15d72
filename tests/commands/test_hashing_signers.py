"""Signers that always hash: the approval data of a token file in place of its digests."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Shell, need

TOKEN = json.loads((ROOT / "examples" / "aws-quorum" / "user-management.token").read_bytes())
HASHED = [b64decode(TOKEN["approval_data"]), b"a registration token", b"\0" * 245]
HASHES = ("openssl", "dgst", "-sha256", "-sign", "officer1.key")


def registration(*hashed: bytes) -> dict[str, Any]:
    """Return a quorum registration of these bytes."""
    return {
        "version": "2.0",
        "tokens": [
            {
                "approval_data": b64encode(content).decode(),
                "unsigned": b64encode(sha256(content).digest()).decode(),
                "signed": "",
            }
            for content in hashed
        ],
    }


@pytest.fixture
def desk(shell: Shell, keys: Path) -> Shell:
    """A directory with a quorum token, a registration of three HSMs, an MFA file and a key pair."""
    need("openssl")
    shell.write("admin.token", json.dumps(TOKEN).encode())
    shell.write("registration.json", json.dumps(registration(*HASHED)).encode())
    shutil.copy(keys / "pkcs8.pem", shell.cwd / "officer1.key")
    shutil.copy(keys / "spki.pem", shell.cwd / "officer1.pub")
    return shell


def test_extract_writes_lines_bytes_and_files(desk: Shell) -> None:
    """The approval data comes as the digests do: a line each, chosen, raw, or in files."""
    lines = [b64encode(content) + b"\n" for content in HASHED]
    extract = ("tok-extract", "--approval-data")
    assert desk.run(*extract, "registration.json").check(0).out == b"".join(lines)
    assert desk.run(*extract, "-n", "2-", "registration.json").check(0).out == b"".join(lines[1:])
    assert desk.run(*extract, "-r", "admin.token").check(0).out == HASHED[0]
    desk.run(*extract, "-s", "hsm", "registration.json").check(0)
    assert [desk.read(f"hsm{number}.bin") for number in (1, 2, 3)] == HASHED
    desk.write("t1.bin", b"shorter than a digest")
    desk.run("tok-extract", "-s", "t", "registration.json").check(0)
    desk.run(*extract, "-r", "registration.json").check(2, "-r writes one")


def test_a_signer_that_hashes_signs_what_tok_sign_signs(desk: Shell) -> None:
    """The signatures are byte for byte those of the digests, of any of them, on standard input or in a file."""
    exec_ = ("tok-exec", "-p", "officer1.pub", "--approval-data", "registration.json")
    digests = desk.run("tok-extract", "registration.json").check(0).out
    wanted = desk.run("tok-sign", "-k", "officer1.key", stdin=digests).check(0).out
    assert desk.run(*exec_, "--", *HASHES, stdin=digests).check(0).out == wanted
    assert desk.run(*exec_, "-j", "3", "--", *HASHES, "{}", stdin=digests).check(0).out == wanted
    second = digests.splitlines(keepends=True)[1]
    assert desk.run(*exec_, "--", *HASHES, stdin=second).check(0).out == wanted.splitlines(keepends=True)[1]


def test_a_signature_of_the_digest_once_more_is_found_out(desk: Shell) -> None:
    """-p verifies against the digest, whatever the command was fed."""
    digests = desk.run("tok-extract", "admin.token").out
    exec_ = ("tok-exec", "-p", "officer1.pub")
    desk.run(*exec_, "--", *HASHES, stdin=digests).check(1, "the digest was hashed once more")
    sha1 = ("openssl", "dgst", "-sha1", "-sign", "officer1.key")
    done = desk.run(*exec_, "--approval-data", "admin.token", "--", *sha1, stdin=digests)
    assert done.check(1, "standard input: line 1: ").out == b""


def test_a_file_without_approval_data_says_so(desk: Shell) -> None:
    """An MFA file has none; neither tool goes on, and each says it in a line."""
    for command in (("tok-extract", "--approval-data", "f.json"), ("tok-exec", "--approval-data", "f.json", "cat")):
        done = desk.run(*command).check(2, ": f.json: a file for MFA login or set-up has no approval data\n")
        assert done.out == b""


def test_digests_of_another_file_are_refused(desk: Shell) -> None:
    """A digest that the file does not show is not signed, nor is one that is not the SHA-256 of what is shown."""
    exec_ = ("tok-exec", "--approval-data")
    digests = desk.run("tok-extract", "f.json").out
    done = desk.run(*exec_, "admin.token", "--", "touch", "ran", stdin=digests)
    assert done.check(2, "standard input: line 1: no approval data for this digest").out == b""
    wrong = registration(HASHED[1])
    wrong["tokens"][0]["approval_data"] = b64encode(b"something else").decode()
    desk.write("wrong.json", json.dumps(wrong).encode())
    desk.run(*exec_, "wrong.json", "--", "touch", "ran", stdin=digests).check(
        2, "wrong.json: token 1: the digest is not"
    )
    desk.run("tok-extract", "--approval-data", "wrong.json").check(2, "wrong.json: token 1: the digest is not")
    desk.run(*exec_, "-", "--", "touch", "ran", stdin=digests).check(2, "standard input has the digests")
    desk.run(*exec_, "nowhere", "--", "touch", "ran", stdin=digests).check(2, "nowhere: no such file")
    assert not (desk.cwd / "ran").exists()


def test_more_than_a_pipe_takes(desk: Shell) -> None:
    """Approval data of any size reaches the command."""
    desk.write("large.json", json.dumps(registration(b"a" * (1 << 21)), indent=2).encode())
    digests = desk.run("tok-extract", "large.json").check(0).out
    desk.run("tok-exec", "-p", "officer1.pub", "--approval-data", "large.json", "--", *HASHES, stdin=digests).check(0)

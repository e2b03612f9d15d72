"""tok-inspect: what it says of every kind of token file, and that it shows nothing raw."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from conftest import ROOT, Shell

SIGNATURE = base64.b64encode(bytes(256)).decode()
DIGESTS = (
    "Vtf/9QOFY45v/E1osvpEMr59JsnP/hLDm4ItOO2vqL8=",
    "wVbC0/5IKwjyZK2NBpdFLyI7BiayZ24YcdUdlcxLwZ4=",
    "z6aW9RzErJBL5KqFG5h8lhTVt9oLbxppjod0Ebysydw=",
)
OF_2023 = """\
f: quorum token: 0 approvals
  token 1: 0l2LZkmAHZyAc1hPhyckOoVW33aGrgG77qmDHWQ3CJ8=
    approval data: 240 bytes; its SHA-256 is the digest
    beware: it seems older than ten minutes, a token's default life
    it seems to say (the layout is not documented; for display only):
      HSM 0x18: requester admin, service 3, time 2023-02-11T02:01:02Z
      HSM 0x15: requester admin, service 3, time 2023-02-11T02:01:02Z
      HSM 0x14: requester admin, service 3, time 2023-02-11T02:01:02Z
"""


def mfa(*signed: str) -> dict[str, Any]:
    pairs = zip(DIGESTS, signed)
    return {"version": "2.0", "tokens": [{"unsigned": digest, "signed": text} for digest, text in pairs]}


def registration(approval_data: bytes, signed: str = "") -> dict[str, Any]:
    token = {**shows(approval_data, "unsigned"), "signed": signed}
    return {"version": "2.0", "tokens": [token], "signatures": [{"username": "admin", "signature": ""}]}


def quorum(approval_data: bytes, *approvals: dict[str, str], **more: str) -> dict[str, Any]:
    return {"version": "2.0", **more, **shows(approval_data, "token"), "signatures": list(approvals)}


def shows(approval_data: bytes, digest: str) -> dict[str, str]:
    return {
        "approval_data": base64.b64encode(approval_data).decode(),
        digest: base64.b64encode(hashlib.sha256(approval_data).digest()).decode(),
    }


def approval_record(requester: bytes = b"admin", seconds: int = 0, hsm: int = 24, key_handle: int = 0) -> bytes:
    head = b"\0\1\0\3" + hsm.to_bytes(4, "big") + key_handle.to_bytes(8, "big") + bytes(16)
    return head + requester.ljust(32, b"\0") + seconds.to_bytes(8, "big") + bytes(8)


def approver(username: str, signature: str, **role: str) -> dict[str, str]:
    return {"username": username, **role, "signature": signature}


def inspect(shell: Shell, document: dict[str, Any], *options: str) -> str:
    shell.write("f", json.dumps(document).encode())
    done = shell.run("tok-inspect", *options, "f").check(0)
    assert done.err == ""
    return done.out.decode()


def test_sample_of_2023(shell: Shell) -> None:
    """AWS's sample of 2023 is described as what it is; tests/e2e/tok-inspect.sh has newer ones."""
    shell.write("f", (ROOT / "examples" / "aws-quorum" / "user-2023.token").read_bytes())
    assert shell.run("tok-inspect", "f").check(0).out.decode() == OF_2023


@pytest.mark.parametrize(
    ("document", "first", "wanted"),
    [
        (mfa("", SIGNATURE, ""), "MFA login or set-up: 3 HSMs, 1 signed", [": unsigned", ": signed, 256 bytes"]),
        (mfa("QUJD"), "MFA login or set-up: 1 HSM, 0 signed", [": not signed: 3 bytes cannot be a signature"]),
        (mfa("ÄÄ", "QQ", "QR=="), "MFA login or set-up: 3 HSMs, 0 signed", 3 * [": not signed: not in base64"]),
        (
            registration(b"any text", SIGNATURE),
            "quorum registration: 1 HSM, 1 signed",
            [": signed, 256 bytes", "approval data: 8 bytes; its SHA-256 is the digest"],
        ),
        (
            quorum(b"x", approver("admin2", SIGNATURE, role="admin"), approver("admin3", "")),
            "quorum token: 1 approval",
            ["\n  approver admin2 (admin): signed, 256 bytes\n", "\n  approver admin3: unsigned\n", "1 byte;"],
        ),
        (quorum(b"x", approver("a", "!")), "quorum token: 0 approvals", ["approver a: not signed: not in base64"]),
    ],
)
def test_what_is_signed(shell: Shell, document: dict[str, Any], first: str, wanted: list[str]) -> None:
    """The first line says how much is signed, and the lines of tokens or approvers say which, and how."""
    head, lines = inspect(shell, document).split("\n", 1)
    assert head == f"f: {first}"
    at = "\n" + lines
    for text in wanted:
        assert text in at
        assert at.count(text) >= wanted.count(text)


def test_digest_of_something_else(shell: Shell) -> None:
    """A digest that is not that of the approval data is shown as such, which is an answer; other tools refuse it."""
    document = registration(approval_record())
    document["tokens"][0]["approval_data"] = base64.b64encode(b"another").decode()
    assert "approval data: 7 bytes; its SHA-256 is NOT the digest\n" in inspect(shell, document)
    (token,) = json.loads(inspect(shell, document, "--json"))["tokens"]
    assert token["digest_matches_approval_data"] is False
    shell.run("tok-extract", "f").check(2, "do not sign it")


def test_wild_records(shell: Shell) -> None:
    """Whatever stands in a record can be shown: the largest numbers, times without a date, names that are not text."""
    largest = approval_record(b"\xff" * 32, 2**64 - 1, 2**32 - 1, 2**64 - 1)
    records = largest + approval_record(b"a\x1b[31m\n\x7f", 2**63) + approval_record(b"", 253402300799)
    lines = inspect(shell, quorum(records)).splitlines()[-3:]
    largest_hsm, coloured, nobody = lines
    assert largest_hsm.startswith("      HSM 0xffffffff: requester ")
    assert largest_hsm.endswith("service 3, key handle 0xffffffffffffffff, time 18446744073709551615")
    assert r'requester "a\x1b[31m\n\x7f", service 3, time 9223372036854775808' in coloured
    assert nobody == '      HSM 0x18: requester "", service 3, time 9999-12-31T23:59:59Z'
    assert all(line.isprintable() for line in lines)
    facts = json.loads(inspect(shell, quorum(records), "--json"))["tokens"][0]["undocumented_approval_data"]
    assert [record["key_handle"] for record in facts] == [2**64 - 1, 0, 0]


def test_names_are_escaped(shell: Shell) -> None:
    """Control characters and the like in user names, roles and labels are escaped, a backslash too."""
    entry = approver("a\x1b]0;\x07\u202e\x9b\\", SIGNATURE, role="ad\nmin")
    text = inspect(shell, quorum(b"x", entry, service="s\r\x7f", key_reference="0x\t"))
    assert '  service: "s\\r\\x7f" (not covered by the signatures)\n' in text
    assert '  key_reference: "0x\\t" (not covered by the signatures)\n' in text
    assert '  approver "a\\x1b]0;\\x07\\u202e\\x9b\\\\" ("ad\\nmin"): signed' in text
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("label", [17, 0.5, False, ["\x1b", 1], {"a": "\u202e"}])
def test_labels_of_another_type(shell: Shell, label: Any) -> None:
    """What is in the place of a label is shown as JSON, and is not covered either."""
    document = quorum(b"x", key_reference=label)
    text = f"  key_reference: {json.dumps(label)}, which is not a string (not covered by the signatures)"
    assert text in inspect(shell, document).splitlines()
    assert json.loads(inspect(shell, document, "--json"))["key_reference"] == label


def test_labels_that_the_signed_data_contradicts(shell: Shell) -> None:
    """Nobody signs the labels; a line warns where the signed data seems to say something else."""
    document = quorum(approval_record(), service="x\nit is fine: OK")
    said = 'the label says "x\\nit is fine: OK", the signed data service 3, as user-management has it'
    assert f"    beware: {said}" in inspect(shell, document).splitlines()
    assert json.loads(inspect(shell, document, "--json"))["tokens"][0]["undocumented_contradictions"] == [said]


KINDS: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "mfa": (mfa("", SIGNATURE), set(), {"signature_bytes"}),
    "quorum-registration": (
        registration(approval_record()),
        set(),
        {
            "signature_bytes",
            "digest_matches_approval_data",
            "undocumented_approval_data",
            "undocumented_contradictions",
        },
    ),
    "quorum-token": (
        quorum(approval_record(), approver("admin2", SIGNATURE, role="admin"), service="s", key_reference="0x1"),
        {"approvals", "service", "key_reference"},
        {"digest_matches_approval_data", "undocumented_approval_data", "undocumented_contradictions"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_json(shell: Shell, kind: str) -> None:
    """Of every kind --json has just the members that the manual promises, and every one of them is in the manual."""
    document, members, token_members = KINDS[kind]
    facts = json.loads(inspect(shell, document, "--json"))
    assert facts["kind"] == kind
    assert set(facts) == {"file", "kind", "version", "tokens"} | members
    for token in facts["tokens"]:
        assert set(token) == {"digest", "digest_hex"} | token_members
        assert base64.b64decode(token["digest"]).hex() == token["digest_hex"]
        for record in token.get("undocumented_approval_data", ()):
            assert set(record) == {"service", "hsm", "key_handle", "requester", "time"}
    for approval in facts.get("approvals", ()):
        assert set(approval) == {"username", "role", "signature_bytes"}
    page = (ROOT / "man" / "tok-inspect.1").read_text()
    for member in set(facts) | set(facts["tokens"][0]):
        assert f".Ql {member}" in page


def test_values_of_json(shell: Shell) -> None:
    """What --json says of versions, signatures, approvers and keys is what the file has; null stands for nothing."""
    facts = json.loads(inspect(shell, mfa("", SIGNATURE, "!"), "--json"))
    assert facts["version"] == "2.0"
    assert [token["signature_bytes"] for token in facts["tokens"]] == [None, 256, None]
    facts = json.loads(inspect(shell, quorum(b"x", approver("é", ""), approver("b", "QQ==", role="r")), "--json"))
    assert facts["approvals"] == [
        {"username": "é", "role": None, "signature_bytes": None},
        {"username": "b", "role": "r", "signature_bytes": 1},
    ]

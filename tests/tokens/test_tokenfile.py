"""Token files: what is read of each kind, what is refused, and what is written."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from conftest import ROOT, SIGNED, UNSIGNED

from toktools.errors import ToktoolsError
from toktools.tokens import kinds, tokenfile

DIGEST = base64.b64encode(bytes(32)).decode()
SIGNATURE = base64.b64encode(bytes(256)).decode()
TOKEN = f'{{"unsigned": "{DIGEST}", "signed": ""}}'
APPROVAL_DATA = base64.b64encode(b"what is approved").decode()
APPROVED = base64.b64encode(hashlib.sha256(b"what is approved").digest()).decode()
REGISTRATION = f'{{"approval_data": "{APPROVAL_DATA}", "unsigned": "{APPROVED}", "signed": ""}}'
ENTRY = '{"username": "admin2", "role": "admin", "signature": ""}'
SAMPLES = sorted((ROOT / "examples" / "aws-quorum").glob("*.token"))


def mfa_file(tokens: str = TOKEN, *, top: str = '"version": "2.0"', more: str = "") -> bytes:
    """Return an MFA token file with these entries, top-level members before them, and more after them."""
    return f'{{{top}, "tokens": [{tokens}]{more}}}'.encode()


def quorum_token(
    signatures: str = "[]", *, top: str = '"version": "2.0"', data: str = APPROVAL_DATA, digest: str = APPROVED
) -> bytes:
    """Return a quorum token with these approvals, and top-level members before the rest."""
    return f'{{{top}, "approval_data": "{data}", "token": "{digest}", "signatures": {signatures}}}'.encode()


KINDS = {
    "mfa": (mfa_file(f"{TOKEN}, {TOKEN}, {TOKEN}"), kinds.MFA, 3),
    "registration of 5.18": (
        mfa_file(f"{REGISTRATION}, {REGISTRATION}", more=f', "signatures": [{ENTRY}]'),
        kinds.REGISTRATION,
        2,
    ),
    "key token": (
        quorum_token(f"[{ENTRY}]", top='"version": "2.0", "service": "key-usage", "key_reference": "0x01"'),
        kinds.QUORUM_TOKEN,
        1,
    ),
    "token of 2023": (quorum_token('[{"username": "admin", "signature": ""}]'), kinds.QUORUM_TOKEN, 1),
}


def written(tokens: tokenfile.TokenFile) -> bytes:
    return b"".join(tokens.dump())


def refusal(text: bytes) -> str:
    """Return the message that a file is refused with."""
    with pytest.raises(ToktoolsError) as caught:
        tokenfile.parse(text)
    assert caught.value.status == 2
    assert caught.value.message.isprintable()
    assert not tokenfile.is_token_file(text)
    return caught.value.message


@pytest.mark.parametrize("path", [UNSIGNED, SIGNED, *SAMPLES], ids=lambda path: path.stem)
def test_published_files_come_out_as_they_were(path: Path) -> None:
    """AWS's own files are written again byte for byte, and their approval data is that of the digest."""
    assert len(SAMPLES) == 3
    tokens = tokenfile.parse(path.read_bytes())
    tokens.check_approval_data()
    assert (len(tokens.digests), tokens.kind.has_approvals) == ((1, True) if path in SAMPLES else (3, False))
    assert written(tokens) == path.read_bytes()
    assert tokenfile.is_token_file(path.read_bytes())


@pytest.mark.parametrize("name", KINDS)
def test_kinds(name: str) -> None:
    """A file is recognized by its members; a signature goes into its own slot."""
    text, kind, count = KINDS[name]
    tokens = tokenfile.parse(text)
    tokens.check_approval_data()
    assert (tokens.kind, len(tokens.digests)) == (kind, count)
    assert {base64.b64encode(digest).decode() for digest in tokens.digests} <= {DIGEST, APPROVED}
    if kind.has_approvals:
        names = [f"approver {approval.username}" for approval in tokens.approvals] + ["approver admin3"]
        tokens.approve({"username": "admin3", "signature": SIGNATURE})
    else:
        names = [f"token {number}" for number in range(1, count + 1)]
        tokens.put(count - 1, bytes(256))
    assert [(slot.name, slot.text) for slot in tokens.slots()] == list(
        zip(names, [*[""] * (len(names) - 1), SIGNATURE])
    )


@pytest.mark.parametrize(
    "text",
    [
        mfa_file().replace(b"[", b"").replace(b"]", b""),
        quorum_token("{}"),
        mfa_file('"@{unsigned=x; signed=}"'),
        quorum_token('["@{username=x}"]'),
    ],
)
def test_json_of_powershell(text: bytes) -> None:
    """What ConvertTo-Json makes of short lists and deep objects has a hint."""
    with pytest.raises(ToktoolsError, match=r"not a list$|not a JSON object$") as caught:
        tokenfile.parse(text)
    assert caught.value.hint.startswith("PowerShell ")


def test_examples_of_the_manual() -> None:
    """Each example of tok-file(5) is of the kind of its subsection, and comes back byte for byte."""
    found = []
    for section in (ROOT / "man" / "tok-file.5").read_text().split(".Ss ")[1:]:
        title, _, rest = section.partition("\n")
        for block in rest.split(".Bd ")[1:]:
            example = block.partition("\n")[2].partition(".Ed\n")[0].encode()
            tokens = tokenfile.parse(example)
            tokens.check_approval_data()
            assert tokens.kind.title.lower() == title.lower()
            assert written(tokens) == example
            found.append(tokens.kind)
    assert found == [kinds.MFA, kinds.REGISTRATION, *[kinds.QUORUM_TOKEN] * 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "an empty file"),
        *((text, "not a token file: not a JSON object") for text in (b"[]", b"2.0", b'"tokens"', b"null")),
        (b"{}", 'not a token file: no member "tokens" or "token"'),
        (mfa_file(more=f', "token": "{DIGEST}"'), '"tokens" and "token" are members of different kinds'),
        (mfa_file(more=', "approval_data": "AAAA"'), '"tokens" and "approval_data" are members of different kinds'),
        (mfa_file(top='"version": "1.0"'), 'unknown "version": "1.0"; toktools knows "2.0"'),
        (mfa_file(top='"version": 2.0'), 'unknown "version": 2.0;'),
        (mfa_file(top=f'"version": "{"9" * 50}"'), f'unknown "version": "{"9" * 40}"; toktools knows'),
        (mfa_file(top='"version": "\\u001b[2J\x9b"'), r'unknown "version": "\x1b[2J\x9b"'),
        (mfa_file(top='"version": ["\x9b"]'), r'unknown "version": ["\u009b"]'),
        (mfa_file(top='"Version": "2.0"'), 'no member "version"'),
        (mfa_file(f"{TOKEN}, {REGISTRATION}"), "tokens of different kinds"),
        (mfa_file(""), '"tokens" contains no tokens'),
        *((b'{"version": "2.0", "tokens": %s}' % text, '"tokens" is not a list') for text in (b"{}", b"null", b'"x"')),
        (mfa_file(f"{TOKEN}, null"), "token 2: not a JSON object"),
        (mfa_file(f'{TOKEN}, {{"signed": ""}}'), 'token 2: no member "unsigned"'),
        (mfa_file(f'{{"unsigned": "{DIGEST}"}}'), 'token 1: no member "signed"'),
        (mfa_file(f'{{"unsigned": "{DIGEST}", "signed": null}}'), 'token 1: "signed" is not a string'),
        (mfa_file('{"unsigned": 1, "signed": ""}'), 'token 1: "unsigned" is not a string'),
        (mfa_file(REGISTRATION.replace('"signed"', '"x"')), 'token 1: no member "signed"'),
        (mfa_file(REGISTRATION.replace(f'"{APPROVAL_DATA}"', "null")), '"approval_data" is not a string'),
        (b'{"version": "2.0", "token": "QUJD", "signatures": []}', 'no member "approval_data"'),
        (b'{"version": "2.0", "approval_data": "QUJD", "signatures": []}', 'no member "token"'),
        (quorum_token(digest="QUJD"), 'token 1: "token": 3 bytes, but a SHA-256 digest has 32'),
        *((quorum_token(wrong), '"signatures" is not a list') for wrong in ("{}", "null", '"x"', "1")),
        *((quorum_token(f"[{ENTRY}, {wrong}]"), "approval 2: not a JSON object") for wrong in ("null", '"x"', "[]")),
        (quorum_token("[{}]"), 'approval 1: no member "username"'),
        (quorum_token('[{"username": "admin2"}]'), 'approval 1: no member "signature"'),
        *(
            (quorum_token(f"[{ENTRY}, {ENTRY.replace(old, 'null')}]"), f'approval 2: "{name}" is not a string')
            for name, old in (("username", '"admin2"'), ("role", '"admin"'), ("signature", '""'))
        ),
        (quorum_token(f"[{ENTRY}, {ENTRY.replace('admin2', 'Admin2')}]"), "approver Admin2 has two entries"),
        (quorum_token(f"[{', '.join([ENTRY.replace('admin2', 'a: OK')] * 2)}]"), 'approver "a: OK" has two entries'),
    ],
)
def test_what_is_refused(text: bytes, said: str) -> None:
    """A file that is almost of a kind is refused with the member or the entry that is wrong."""
    assert said in refusal(text)


@pytest.mark.parametrize(
    ("digest", "said"),
    [
        (base64.b64encode(bytes(31)).decode(), "31 bytes, but a SHA-256 digest has 32"),
        ("ab" * 32, "hexadecimal digits, not base64"),
        ("", "empty"),
        (DIGEST.replace("A=", "B="), "not canonical base64"),
        (DIGEST + "\\n", "white space in the base64"),
    ],
)
def test_wrong_digest(digest: str, said: str) -> None:
    """A digest that is not canonical base64 of 32 bytes is refused with its token."""
    text = mfa_file(f'{TOKEN}, {{"unsigned": "{digest}", "signed": ""}}')
    assert refusal(text) == f'token 2: "unsigned": {said}'


@pytest.mark.parametrize("data", ["", "?", APPROVAL_DATA.rstrip("="), DIGEST, APPROVED])
def test_nobody_signs_blind(data: str) -> None:
    """Approval data that is not what was hashed is refused with the number of its token."""
    registration = mfa_file(f"{REGISTRATION}, {REGISTRATION.replace(APPROVAL_DATA, data)}")
    for text, number in ((quorum_token(data=data), 1), (registration, 2)):
        with pytest.raises(ToktoolsError, match=rf'^token {number}: .*"approval_data"'):
            tokenfile.parse(text).check_approval_data()


def test_the_largest_file(tmp_path: Path) -> None:
    """Sixteen mebibytes are read, and no more."""
    path = tmp_path / "f"
    for size, said in (
        (1 << 24, "larger than 1048576 bytes, and not JSON in the layout of the CloudHSM CLI"),
        ((1 << 24) + 1, "larger than 16777216 bytes"),
    ):
        with path.open("wb") as file:
            file.write(b" ")
            file.truncate(size)
        with pytest.raises(ToktoolsError) as caught:
            tokenfile.read(str(path))
        assert caught.value.message == f"{path}: {said}"

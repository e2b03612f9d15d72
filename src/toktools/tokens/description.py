"""What a token file is, and what is signed in it: in words for a person, and as facts for scripts."""

from __future__ import annotations

import binascii
from collections.abc import Iterator

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.tokens.usernames import shown_user, word

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.approvaldata import Record
    from toktools.tokens.tokenfile import TokenFile

_SAID = ("service", "key_reference")
"""What some files say about themselves, in AWS's words; the signatures do not cover it."""


def facts(tokens: TokenFile) -> dict[str, object]:
    """Return what --json writes. Scripts rely on it: members may be added, but none is renamed."""
    from dataclasses import asdict

    from toktools.tokens import approvaldata

    shape = tokens.shape
    known = tokens.approval_data
    entries = []
    for index, digest in enumerate(tokens.digests):
        entry: dict[str, object] = {
            "digest": encoding.encode(digest).decode(),
            "digest_hex": binascii.hexlify(digest).decode(),
        }
        if not shape.approvals:
            entry["signature_bytes"] = _size(tokens.signed(index))
        if known:
            entry["digest_matches_approval_data"] = tokens.is_shown(index)
            records = approvaldata.records(known[index])
            entry["undocumented_approval_data"] = [asdict(record) for record in records]
            entry["undocumented_contradictions"] = _contradictions(tokens, records)
        entries.append(entry)
    found: dict[str, object] = {"kind": shape.kind, "version": shape.version[1], "tokens": entries}
    if shape.approvals:
        found["approvals"] = [
            {"username": approval.username, "role": approval.role, "signature_bytes": _size(approval.signature)}
            for approval in tokens.approvals
        ]
    if shape.public_key:
        found["has_public_key"] = bool(tokens.member(shape.public_key))
    return found | {name: tokens.member(name) for name in _SAID if isinstance(tokens.member(name), str)}


def lines(name: str, tokens: TokenFile, *, hexadecimal: bool) -> Iterator[bytes]:
    """Yield what it is and has, line by line, for a person; name is that of the file."""
    yield f"{name}: {tokens.shape.title}: {_summary(tokens)}\n".encode()
    for line in _what_it_has(tokens, hexadecimal=hexadecimal):
        yield f"  {line}\n".encode()


def _what_it_has(tokens: TokenFile, *, hexadecimal: bool) -> Iterator[str]:
    shape = tokens.shape
    for name in _SAID:
        if isinstance(tokens.member(name), str):
            yield f"{name}: {word(str(tokens.member(name)))} (not signed)"
    known = tokens.approval_data
    for index, digest in enumerate(tokens.digests):
        state = "" if shape.approvals else f": {_state(tokens.signed(index))}"
        yield f"token {index + 1}: {encoding.encode(digest).decode()}{state}"
        if hexadecimal:
            yield f"  {binascii.hexlify(digest).decode()}"
        if known:
            yield from _what_it_says(tokens, index)
    for approval in tokens.approvals:
        role = f" ({word(approval.role)})" if approval.role is not None else ""
        yield f"approver {shown_user(approval.username)}{role}: {_state(approval.signature)}"
    if shape.public_key:
        there = "there" if tokens.member(shape.public_key) else "empty"
        yield f"{shape.public_key}: {there}"


def _summary(tokens: TokenFile) -> str:
    signed = sum(_size(place.text) in encoding.SIGNATURE_SIZES for place in tokens.places())
    if tokens.shape.approvals:
        return encoding.count(signed, "approval")
    return f"{encoding.count(len(tokens.digests), 'HSM')}, {signed} signed"


def _what_it_says(tokens: TokenFile, index: int) -> Iterator[str]:
    from toktools.tokens import approvaldata

    approval_data = tokens.approval_data[index]
    match = "its SHA-256 is the digest" if tokens.is_shown(index) else "its SHA-256 is NOT the digest"
    yield f"  approval data: {encoding.size(len(approval_data))}; {match}"
    found = approvaldata.records(approval_data)
    for said in _contradictions(tokens, found):
        yield f"  beware: {said}"
    if found:
        yield "  it seems to say (the layout is not documented; for display only):"
    for record in found:
        handle = f", key handle {record.key_handle:#x}" if record.key_handle else ""
        requester = shown_user(record.requester)
        yield f"    HSM {record.hsm:#x}: requester {requester}, service {record.service}{handle}, time {record.time}"


def _contradictions(tokens: TokenFile, found: list[Record]) -> list[str]:
    from toktools.tokens import approvaldata

    return approvaldata.contradictions(tokens.member("service"), tokens.member("key_reference"), found)


def _size(text: str) -> int | None:
    try:
        return len(encoding.decode_bytes(text.encode()))
    except ToktoolsError:
        return None


def _state(text: str) -> str:
    if not text:
        return "unsigned"
    size = _size(text)
    if size is None:
        return "not signed: not in base64"
    is_signature = size in encoding.SIGNATURE_SIZES
    return (
        f"signed, {encoding.size(size)}" if is_signature else f"not signed: {encoding.size(size)} cannot be a signature"
    )

"""Descriptions of token files: lines for a person, and an object for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from toktools import encoding, records
from toktools.tokens.approvals import shown_name
from toktools.tokens.kinds import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.tokens.approval_data import Record
    from toktools.tokens.tokenfile import TokenFile

_LABELS = ("service", "key_reference")
"""Members of some quorum tokens that the signatures do not cover."""


def facts(tokens: TokenFile) -> dict[str, object]:
    """Return what --json writes. Scripts rely on it: members may be added, but none is renamed."""
    described: dict[str, object] = {
        "kind": tokens.kind.name,
        "version": VERSION,
        # The facts of many tokens at once are much memory.
        "tokens": [partial(_token_facts, tokens, index) for index in range(len(tokens))],
    }
    if tokens.kind.has_approvals:
        described["approvals"] = [
            {"username": approval.username, "role": approval.role, "signature_bytes": _size(approval.signature)}
            for approval in tokens.approvals
        ]
    return described | _labels(tokens)


def _token_facts(tokens: TokenFile, index: int) -> dict[str, object]:
    digest = tokens.digest(index)
    described: dict[str, object] = {
        "digest": encoding.encode(digest).decode(),
        "digest_hex": digest.hex(),
    }
    if not tokens.kind.has_approvals:
        described["signature_bytes"] = _size(tokens.signature(index))
    if tokens.kind.has_approval_data:
        records, contradictions = _records(tokens, index)
        described["digest_matches_approval_data"] = tokens.digest_matches(index)
        described["undocumented_approval_data"] = [vars(record) for record in records]
        described["undocumented_contradictions"] = contradictions
    return described


def lines(name: str, tokens: TokenFile, *, hexadecimal: bool) -> Iterator[bytes]:
    """Yield the lines of a description for a person; *name* is that of the file."""
    yield f"{name}: {tokens.kind.title}: {_summary(tokens)}\n".encode()
    for line in _details(tokens, hexadecimal=hexadecimal):
        yield f"  {line}\n".encode()


def _details(tokens: TokenFile, *, hexadecimal: bool) -> Iterator[str]:
    for name, label in _labels(tokens).items():
        text = shown_name(label) if isinstance(label, str) else f"{json.dumps(label)}, which is not a string"
        yield f"{name}: {text} (not covered by the signatures)"
    for index in range(len(tokens)):
        digest = tokens.digest(index)
        state = "" if tokens.kind.has_approvals else f": {_state(tokens.signature(index))}"
        yield f"token {index + 1}: {encoding.encode(digest).decode()}{state}"
        if hexadecimal:
            yield f"  {digest.hex()}"
        if tokens.kind.has_approval_data:
            yield from _approval_data(tokens, index)
    for approval in tokens.approvals:
        role = f" ({shown_name(approval.role)})" if approval.role is not None else ""
        yield f"approver {shown_name(approval.username)}{role}: {_state(approval.signature)}"


def _labels(tokens: TokenFile) -> dict[str, object]:
    return {name: label for name in _LABELS if (label := tokens.member(name)) is not None}


def _summary(tokens: TokenFile) -> str:
    signed = sum(_size(slot.text) in encoding.SIGNATURE_SIZES for slot in tokens.slots())
    if tokens.kind.has_approvals:
        return encoding.count(signed, "approval")
    return f"{encoding.count(len(tokens), 'HSM')}, {signed} signed"


def _approval_data(tokens: TokenFile, index: int) -> Iterator[str]:
    from toktools.tokens import approval_data

    match = "its SHA-256 is the digest" if tokens.digest_matches(index) else "its SHA-256 is NOT the digest"
    yield f"  approval data: {encoding.size(len(tokens.approval_data(index)))}; {match}"
    records, contradictions = _records(tokens, index)
    if approval_data.is_old(tokens.approval_data(index)):
        contradictions.append("it seems older than ten minutes, a token's default life")
    for contradiction in contradictions:
        yield f"  beware: {contradiction}"
    if records:
        yield "  it seems to say (the layout is not documented; for display only):"
    for record in records:
        handle = f", key handle {record.key_handle:#x}" if record.key_handle else ""
        requester = shown_name(record.requester)
        yield f"    HSM {record.hsm:#x}: requester {requester}, service {record.service}{handle}, time {record.time}"


def _records(tokens: TokenFile, index: int) -> tuple[list[Record], list[str]]:
    """Return the records in the approval data of a token, and the contradictions between them and the labels."""
    from toktools.tokens import approval_data

    records = approval_data.records(tokens.approval_data(index))
    label, key_reference = tokens.member("service"), tokens.member("key_reference")
    return records, approval_data.contradictions(label, key_reference, records)


def _size(text: str) -> int | None:
    return len(records.find(text.encode())) or None


def _state(text: str) -> str:
    if not text:
        return "unsigned"
    size = _size(text)
    if size is None:
        return "not signed: not in base64"
    if size not in encoding.SIGNATURE_SIZES:
        return f"not signed: {encoding.size(size)} cannot be a signature"
    return f"signed, {encoding.size(size)}"

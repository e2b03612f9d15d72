"""tok-inspect: say what a token file is, and what is signed in it."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

from toktools import encoding, files
from toktools.cli import Tool
from toktools.errors import ToktoolsError, shown
from toktools.options import CommandLine, Operand, Option

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokenfile import TokenFile

COMMAND_LINE = CommandLine(
    "tok-inspect",
    "Say what a CloudHSM token file is, and what is signed in it.",
    "tok-inspect unsigned-tokens.json",
    Option("--json", "", "write one JSON object, for scripts"),
    Option("--hex", "", "write digests in hexadecimal too"),
    Operand("FILE", "the token file, by default standard input"),
)

_SAID = ("service", "key_reference")
"""What some files say about themselves, in AWS's words."""


def _work(options: SimpleNamespace) -> int:
    from toktools import tokenfile

    source, tokens = tokenfile.inspect(options.FILE)
    if options.json:
        files.write_stdout(tokenfile.dump_json(_facts(tokens)))
    else:
        lines = "".join(f"{line}\n" for line in _lines(tokens, hexadecimal=options.hex))
        files.write_stdout(f"{source.name}: {lines}".encode())
    return 0


def _facts(tokens: TokenFile) -> dict[str, object]:
    """Return what --json writes. Scripts rely on it: members may be added, but none is renamed."""
    from dataclasses import asdict

    from toktools import approvaldata

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
            entry["undocumented_approval_data"] = [asdict(record) for record in approvaldata.records(known[index])]
        entries.append(entry)
    facts: dict[str, object] = {"kind": shape.kind, "version": shape.version[1], "tokens": entries}
    if shape.approvals:
        facts["approvals"] = [
            {"username": approval.username, "role": approval.role, "signature_bytes": _size(approval.signature)}
            for approval in tokens.approvals
        ]
    if shape.public_key:
        facts["has_public_key"] = bool(tokens.member(shape.public_key))
    return facts | {name: tokens.member(name) for name in _SAID if isinstance(tokens.member(name), str)}


def _lines(tokens: TokenFile, *, hexadecimal: bool) -> Iterator[str]:
    shape = tokens.shape
    yield f"{shape.title}: {_summary(tokens)}"
    for name in _SAID:
        if isinstance(tokens.member(name), str):
            yield f"  {name}: {shown(str(tokens.member(name)))}"
    known = tokens.approval_data
    for index, digest in enumerate(tokens.digests):
        state = "" if shape.approvals else f": {_state(tokens.signed(index))}"
        yield f"  token {index + 1}: {encoding.encode(digest).decode()}{state}"
        if hexadecimal:
            yield f"    {binascii.hexlify(digest).decode()}"
        if known:
            yield from _what_it_says(known[index], is_shown=tokens.is_shown(index))
    for approval in tokens.approvals:
        role = f" ({shown(approval.role)})" if approval.role is not None else ""
        yield f"  approver {shown(approval.username)}{role}: {_state(approval.signature)}"
    if shape.public_key:
        there = "there" if tokens.member(shape.public_key) else "empty"
        yield f"  {shape.public_key}: {there}"


def _summary(tokens: TokenFile) -> str:
    if tokens.shape.approvals:
        return encoding.count(len(tokens.approvals), "approval")
    signed = sum(bool(place.text) for place in tokens.places())
    return f"{encoding.count(len(tokens.digests), 'HSM')}, {signed} signed"


def _what_it_says(approval_data: bytes, *, is_shown: bool) -> Iterator[str]:
    from toktools import approvaldata

    match = "its SHA-256 is the digest" if is_shown else "its SHA-256 is NOT the digest"
    yield f"    approval data: {encoding.size(len(approval_data))}; {match}"
    found = approvaldata.records(approval_data)
    if found:
        yield "    it seems to say (the layout is not documented; for display only):"
    for record in found:
        handle = f", key handle {record.key_handle:#x}" if record.key_handle else ""
        requester = shown(record.requester)
        yield f"      HSM {record.hsm:#x}: requester {requester}, service {record.service}{handle}, time {record.time}"


def _size(text: str) -> int | None:
    try:
        return len(encoding.decode_bytes(text.encode()))
    except ToktoolsError:
        return None


def _state(text: str) -> str:
    if not text:
        return "unsigned"
    size = _size(text)
    return "signed, but not in base64" if size is None else f"signed, {encoding.size(size)}"


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-inspect."""
    return TOOL.run(argv)

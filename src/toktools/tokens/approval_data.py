"""Records in approval data: an undocumented layout, for display and never for a decision."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from toktools.tokens.approvals import shown_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RECORD = struct.Struct(">HHIQ16s32sQ8s")
_VERSION = 2  # of the newer sample
_LIFE_SECONDS = 600  # of a quorum token, by default
_SERVICES = {3: "user-management", 5: "key-usage"}
"""The label of the published sample with each number."""


@dataclass
class Record:
    """A record of 80 bytes, one for each HSM, as seen in AWS's published samples."""

    service: int
    hsm: int
    key_handle: int
    requester: str
    time: str


def records(approval_data: bytes) -> list[Record]:
    """Return the records in approval data; none if the bytes are not whole records."""
    found = []
    for _, service, hsm, key_handle, _, requester, seconds, _ in _unpacked(approval_data):
        name = requester.rstrip(b"\0").decode("utf-8", "replace")
        found.append(Record(service, hsm, key_handle, name, _time(seconds)))
    return found


def is_old(approval_data: bytes) -> bool:
    """Return whether the token seems older than CloudHSM accepts by default."""
    return any(record[6] + _LIFE_SECONDS < time.time() for record in _unpacked(approval_data))


def contradictions(label: object, key_reference: object, found: Sequence[Record]) -> list[str]:
    """Return the differences between a file's labels, which are not signed, and its records, in words."""
    said = []
    for number in sorted({record.service for record in found}):
        means = _SERVICES.get(number, "")
        wanted = [known for known, name in _SERVICES.items() if name == label]
        if isinstance(label, str) and (means or wanted) and means != label:
            has = f"as {means} has it" if means else f"where {label} has {wanted[0]}"
            said.append(f"the label says {shown_name(label)}, the signed data service {number}, {has}")
    for handle in sorted({record.key_handle for record in found}):
        if isinstance(key_reference, str) and key_reference.lower() != f"{handle:#018x}":
            said.append(f"the label says key {shown_name(key_reference)}, the signed data {handle:#018x}")
        elif handle and not isinstance(key_reference, str):
            said.append(f"no label names a key, the signed data {handle:#018x}")
    requesters = {record.requester for record in found}
    if len(requesters) > 1:
        said.append(f"the signed data names {len(requesters)} requesters")
    return said


def record(  # noqa: PLR0913 - a record's fields
    service: int, hsm: int, requester: str, seconds: int, nonce: bytes, *, key_handle: int = 0
) -> bytes:
    """Return a record in that layout, with a nonce of 16 bytes, for the stand-in."""
    return _RECORD.pack(_VERSION, service, hsm, key_handle, nonce, requester.encode(), seconds, b"")


def _unpacked(approval_data: bytes) -> Iterable[tuple[Any, ...]]:
    return () if len(approval_data) % _RECORD.size else _RECORD.iter_unpack(approval_data)


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return str(seconds)

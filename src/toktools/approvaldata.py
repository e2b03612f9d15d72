"""What approval data seems to say: an undocumented layout, for display and never for a decision."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime, timezone

_RECORD = struct.Struct(">HHIQ16s32sQ8s")
_VERSION = 2  # of the newer sample


@dataclass(frozen=True)
class Record:
    """One record of 80 bytes, of which there is one for each HSM, as it was seen in AWS's published samples."""

    service: int
    hsm: int
    key_handle: int
    requester: str
    time: str


def records(approval_data: bytes) -> list[Record]:
    """Return what the records seem to say; nothing where the bytes are not whole records of 80 bytes."""
    if not approval_data or len(approval_data) % _RECORD.size:
        return []
    found = []
    for _, service, hsm, key_handle, _, requester, seconds, _ in _RECORD.iter_unpack(approval_data):
        name = requester.rstrip(b"\0").decode("utf-8", "replace")
        found.append(Record(service, hsm, key_handle, name, _time(seconds)))
    return found


def record(  # noqa: PLR0913 - a record's fields
    service: int, hsm: int, requester: str, seconds: int, nonce: bytes, *, key_handle: int = 0
) -> bytes:
    """Return one record of 80 bytes in that layout, with a nonce of 16 bytes, for an HSM that is not real."""
    return _RECORD.pack(_VERSION, service, hsm, key_handle, nonce, requester.encode(), seconds, b"")


def _time(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")
    except (OverflowError, OSError, ValueError):
        return str(seconds)

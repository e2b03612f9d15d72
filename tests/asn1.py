"""DER that tests write by hand (X.690)."""

from __future__ import annotations


def value(tag: int, *parts: bytes) -> bytes:
    """A value: its tag of one octet, the length of its parts in as few octets as it takes, and the parts."""
    content = b"".join(parts)
    size = len(content)
    more = (size.bit_length() + 7) // 8
    return bytes([tag, size] if size < 128 else [tag, 128 + more, *size.to_bytes(more, "big")]) + content

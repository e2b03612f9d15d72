"""Records in approval data, and the labels that contradict them."""

from __future__ import annotations

import time

import pytest

from toktools.tokens.approval_data import Record, contradictions, is_old, record, records

NONCE = b"n" * 16
ADMIN = record(3, 1, "admin", 1_700_000_000, NONCE)
KEY = record(5, 2, "cu", 1_700_000_000, NONCE, key_handle=6)


def test_records() -> None:
    """Whole records are read; anything else is none."""
    assert (ADMIN[:8], len(ADMIN)) == (b"\0\2\0\3\0\0\0\1", 80)
    assert records(ADMIN + KEY) == [
        Record(3, 1, 0, "admin", "2023-11-14T22:13:20Z"),
        Record(5, 2, 6, "cu", "2023-11-14T22:13:20Z"),
    ]
    assert [records(content) for content in (b"", ADMIN[:-1], ADMIN + b"\0", b"x" * 40)] == [[]] * 4


def test_old_tokens() -> None:
    """Any record may tell that the token is too old; what is no records tells nothing."""
    fresh = record(3, 1, "admin", int(time.time()), NONCE)
    assert [is_old(content) for content in (b"", ADMIN[:-1], fresh, fresh + ADMIN)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("label", "key", "content", "said"),
    [
        ("user-management", None, ADMIN, []),
        ("key-usage", "0X0000000000000006", KEY, []),
        (None, None, ADMIN, []),
        ("other", None, record(9, 1, "a", 0, NONCE), []),
        ("key-usage", None, ADMIN, ["the label says key-usage, the signed data service 3, as user-management has it"]),
        ("a b", None, ADMIN, ['the label says "a b", the signed data service 3, as user-management has it']),
        (
            "key-usage",
            None,
            record(9, 1, "a", 0, NONCE),
            ["the label says key-usage, the signed data service 9, where key-usage has 5"],
        ),
        ("key-usage", None, KEY, ["no label names a key, the signed data 0x0000000000000006"]),
        ("key-usage", "0x7", KEY, ["the label says key 0x7, the signed data 0x0000000000000006"]),
        ("user-management", "0x7", ADMIN, ["the label says key 0x7, the signed data 0x0000000000000000"]),
        ("user-management", None, ADMIN + record(3, 1, "b", 0, NONCE), ["the signed data names 2 requesters"]),
    ],
)
def test_labels(label: object, key: object, content: bytes, said: list[str]) -> None:
    """Labels, which are not signed, are compared with what is."""
    assert contradictions(label, key, records(content)) == said

"""Names of CloudHSM users: what can be one, and how anything else in the place of one is shown."""

from __future__ import annotations

from toktools.errors import quoted

_MAX_USER = 31


def is_user(text: str) -> bool:
    """Say whether a text can be a user name (AWS CloudHSM User Guide, quotas)."""
    return text.isascii() and text.replace("_", "x").isalnum() and len(text) <= _MAX_USER


def word(text: str) -> str:
    """Return a label from a file as it is where it is one short word, such as key-usage, else in quotes."""
    return text if is_user(text.replace("-", "_")) else quoted(text)


def shown_user(text: str) -> str:
    """Return a name from a file as outputs and messages show it: in quotes where no user can have it.

    Whoever wrote the file could else have put "admin2: OK" there, for a reader of the line or a grep.
    """
    return text if is_user(text) else quoted(text)

"""The one exception, and the escapes of foreign text in it."""

import re

_HIDDEN_IN_URI = r"(://)[^/\s]*(?=@)|(pin-value=)[^&;\s]*"
"""The user of a URL, with a password perhaps, and the PIN of a token (RFC 7512)."""
_MAX_SHOWN = 4096  # characters: a path stays whole (PATH_MAX), so that it can be copied
_MAX_QUOTED = 300


class ToktoolsError(Exception):
    """An error that stops a tool: a message of one line, perhaps a hint, and the exit status.

    The message is in lower case without a full stop. The status is 1 if the answer is no (a signature does not
    verify), else 2.
    """

    def __init__(self, message: str, hint: str = "", status: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.status = status

    def at(self, prefix: str) -> "ToktoolsError":
        """Return the same error with the name of a file, a line or a token before its message."""
        return type(self)(f"{prefix}: {self.message}", self.hint, self.status)

    def also(self, remark: str) -> "ToktoolsError":
        """Return the same error with a remark after its message."""
        return type(self)(f"{self.message}; {remark}", self.hint, self.status)


def shown(text: str, limit: int = _MAX_SHOWN) -> str:
    """Escape characters of text from outside that could move the cursor, colour the screen or break the line."""
    if "://" in text or "pin-value=" in text:
        text = re.sub(_HIDDEN_IN_URI, r"\1\2***", text)
    if len(text) > limit:
        text = f"{text[: limit // 2]} ... {text[-limit // 2 :]}"
    return text if text.isprintable() and "\\" not in text else "".join(map(_shown, text))


def quoted(text: str) -> str:
    """Return text from outside in quotes, escaped, so that nobody takes it for a part of the message."""
    return '"' + shown(text, _MAX_QUOTED).replace('"', '\\"') + '"'


def _shown(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a name that is not text
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode()

"""The kinds of token files, and how each is recognized by its members."""

from __future__ import annotations

from toktools.errors import ToktoolsError, quoted

VERSION = "2.0"
MAX_HSMS = 28
"""The most HSMs in a cluster; a login has a token for each ("AWS CloudHSM quotas")."""
_MAX_SHOWN = 40


class Kind:
    """A kind of token file: the members of its tokens, and whether it takes one signature a token or approvals."""

    def __init__(self, name: str, title: str, members: tuple[str, ...], digest: str) -> None:
        self.name = name
        """The name for scripts."""
        self.title = title
        """The name for people."""
        self.members = members
        """The members, all strings, that every token has."""
        self.digest = digest
        """The member with the digest."""

    @property
    def has_approvals(self) -> bool:
        """Whether several people sign its one token: quorum tokens."""
        return self is QUORUM_TOKEN

    def __str__(self) -> str:
        return f"a {self.title}" if self.has_approvals else f"a file for {self.title}"

    @property
    def has_approval_data(self) -> bool:
        """Whether the file has the bytes that were hashed."""
        return "approval_data" in self.members


MFA = Kind("mfa", "MFA login or set-up", ("unsigned", "signed"), "unsigned")
REGISTRATION = Kind("quorum-registration", "quorum registration", ("approval_data", "unsigned", "signed"), "unsigned")
QUORUM_TOKEN = Kind("quorum-token", "quorum token", ("approval_data", "token"), "token")


def recognize(document: dict[str, object]) -> tuple[Kind, list[dict[str, object]]]:
    """Return the kind of a token file and its tokens; a quorum token is its only token.

    Raises ToktoolsError if its kind or version is unknown.
    """
    single = next((name for name in ("token", "approval_data") if name in document), "")
    if "tokens" in document and single:
        raise ToktoolsError(f'not a token file: "tokens" and "{single}" are members of different kinds of token file')
    if "tokens" not in document and not single:
        raise ToktoolsError('not a token file: no member "tokens" or "token"')
    _check_version(document)
    if single:
        _check_members(document, QUORUM_TOKEN, 1)
        return QUORUM_TOKEN, [document]
    entries = read_list(document, "tokens")
    tokens = [check_object(entry, f"token {number}") for number, entry in enumerate(entries, start=1)]
    if not tokens:
        raise ToktoolsError('"tokens" contains no tokens')
    kinds = {_check_token(token, number) for number, token in enumerate(tokens, start=1)}
    if len(kinds) > 1:
        raise ToktoolsError("tokens of different kinds in one file")
    return kinds.pop(), tokens


def read_list(document: dict[str, object], name: str) -> list[object]:
    """Return a member of a token file that is a list. Raises ToktoolsError if it is not."""
    entries = document.get(name)
    if not isinstance(entries, list):
        raise ToktoolsError(f'"{name}" is not a list' if name in document else f'no member "{name}"', _hint(entries))
    return entries


def check_object(value: object, name: str) -> dict[str, object]:
    """Return *value* if it is a JSON object. Raises ToktoolsError if it is not."""
    if not isinstance(value, dict):
        raise ToktoolsError(f"{name}: not a JSON object", _hint(value))
    return value


def _hint(value: object) -> str:
    """Return a hint if PowerShell's ConvertTo-Json seems to have changed *value*."""
    if isinstance(value, dict):
        return "PowerShell turns a list of one into an object: put [ before it and ] after it"
    is_cut = isinstance(value, str) and value.startswith("@{")
    return "PowerShell truncates nested JSON: use ConvertTo-Json -Depth 9" if is_cut else ""


def _check_version(document: dict[str, object]) -> None:
    if "version" not in document:
        raise ToktoolsError('no member "version"')
    version = document["version"]
    if version != VERSION:
        import json

        text = quoted(version[:_MAX_SHOWN]) if isinstance(version, str) else json.dumps(version)[:_MAX_SHOWN]
        raise ToktoolsError(f'unknown "version": {text}; toktools knows "{VERSION}"')


def _check_token(token: dict[str, object], number: int) -> Kind:
    kind = REGISTRATION if "approval_data" in token else MFA
    _check_members(token, kind, number)
    return kind


def _check_members(token: dict[str, object], kind: Kind, number: int) -> None:
    for name in kind.members:
        if name not in token:
            raise ToktoolsError(f'token {number}: no member "{name}"')
        if not isinstance(token[name], str):
            raise ToktoolsError(f'token {number}: "{name}" is not a string')

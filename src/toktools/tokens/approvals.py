"""Approvals of quorum tokens: user names, roles, and the entries of approvers."""

from __future__ import annotations

from toktools.errors import ToktoolsError, quoted
from toktools.tokens import kinds

ROLES = ("admin", "crypto-user")
MAX_APPROVERS = 8
"""The most approvals that a cluster requires (AWS CloudHSM User Guide, quorum authentication)."""
_MAX_NAME = 31


def is_user_name(text: str) -> bool:
    """Return whether a text can be a user name (AWS CloudHSM User Guide, quotas)."""
    return text.isascii() and text.replace("_", "x").isalnum() and len(text) <= _MAX_NAME


def shown_name(text: str) -> str:
    """Return a user, role or label from a file for outputs and messages, in quotes if it is not a short word.

    Otherwise the author of the file could put "admin2: OK" there, to deceive a reader or a grep.
    """
    return text if is_user_name(text.replace("-", "_")) else quoted(text)


def user(option: str, text: str) -> str:
    """Return a user name, the argument of *option*. Raises ToktoolsError if no user can have it."""
    if not is_user_name(text):
        raise ToktoolsError(f"{option}: a CloudHSM user name has 1 to {_MAX_NAME} letters, digits and underscores")
    return text


class Approval:
    """The entry of an approver in a quorum token: the user, the role (None in files of 2023), and the signature."""

    def __init__(self, entry: dict[str, object]) -> None:
        self.entry = entry

    @property
    def username(self) -> str:
        """The user name as it is spelled."""
        return str(self.entry["username"])

    @property
    def user(self) -> str:
        """The user name in lower case, since those of CloudHSM are not case sensitive."""
        return self.username.lower() if self.username.isascii() else self.username

    @property
    def role(self) -> str | None:
        """The role: admin or crypto-user."""
        return str(self.entry["role"]) if "role" in self.entry else None

    @property
    def signature(self) -> str:
        """The base64 of the signature, or an empty string."""
        return str(self.entry["signature"])

    def check(self) -> None:
        """Raise ToktoolsError if no user can have this name, or there is no such role."""
        if not is_user_name(self.username):
            import json

            # In ASCII, since U+212A, say, looks like a letter that a name may have.
            raise ToktoolsError(f"approver {json.dumps(self.username)}: no CloudHSM user can have this name")
        if self.role not in {None, *ROLES}:
            roles = " or ".join(ROLES)
            raise ToktoolsError(f"approver {self.username}: the role {quoted(str(self.role))} is not {roles}")


def read_list(document: dict[str, object]) -> list[Approval]:
    """Return the approvals in a quorum token. Raises ToktoolsError for a bad entry, or two entries of an approver."""
    approvals = []
    approvers = set()
    for number, entry in enumerate(kinds.read_list(document, "signatures"), start=1):
        approval = Approval(_checked_entry(entry, f"approval {number}"))
        if (approval.user, approval.role) in approvers:
            raise ToktoolsError(f"approver {shown_name(approval.username)} has two entries")
        approvers.add((approval.user, approval.role))
        approvals.append(approval)
    return approvals


def _checked_entry(value: object, name: str) -> dict[str, object]:
    entry = kinds.check_object(value, name)
    for member in ("username", "signature"):
        if member not in entry:
            raise ToktoolsError(f'{name}: no member "{member}"')
    for member in ("username", "role", "signature"):
        if not isinstance(entry.get(member, ""), str):
            raise ToktoolsError(f'{name}: "{member}" is not a string')
    return entry

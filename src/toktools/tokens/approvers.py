"""Who approves a quorum token: names, roles, and the entries of several people."""

from __future__ import annotations

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.tokens.usernames import is_user, shown_user

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import TokenFile

ROLES = ("admin", "crypto-user")
MAX_APPROVERS = 8
"""As many as a cluster asks for at most (AWS CloudHSM User Guide, quorum authentication)."""


def user(option: str, text: str) -> str:
    """Return a user name if it is one by AWS's rules: up to 31 letters, digits and underscores."""
    if not is_user(text):
        raise ToktoolsError(f"{option}: a CloudHSM user name has 1 to 31 letters, digits and underscores")
    return text


def role(option: str, text: str) -> str:
    """Return a role if it is one."""
    if text not in ROLES:
        raise ToktoolsError(f"{option}: a role must be {' or '.join(ROLES)}")
    return text


def entry(username: str, role: str | None, signature: bytes) -> dict[str, object]:
    """Return an approver's entry, in the order of the members that the CloudHSM CLI has."""
    members: dict[str, object] = {"username": username}
    if role is not None:
        members["role"] = role
    members["signature"] = encoding.encode(signature).decode()
    return members


def combine(token: TokenFile, copy: TokenFile) -> list[int]:
    """Take the approvals of a copy of a quorum token, and return the indices of the places that were filled.

    Raises ToktoolsError where it is a copy of another token, or has another entry of an approver who is there already.
    """
    if not copy.shape.approvals or copy.digests != token.digests:
        raise ToktoolsError("this is a copy of another token")
    if not any(approval.signature for approval in copy.approvals):
        raise ToktoolsError("this copy has no approval")
    filled = []
    for approval in copy.approvals:
        if not approval.signature:  # a place that is kept for an approver
            continue
        try:
            encoding.signature(approval.signature.encode())
        except ToktoolsError as error:
            raise error.at(f"approver {shown_user(approval.username)}") from None
        there = token.approval_by(approval.approver)
        if there is None or not there.signature:
            filled.append(token.approve(approval.entry))
        elif there.signature != approval.signature:
            raise ToktoolsError(f"approver {shown_user(approval.username)} has two different entries")
        elif there.role is None and approval.role is not None:  # which was forgotten at first
            filled.append(token.approve(approval.entry))
    return filled


def has_role(token: TokenFile, username: str) -> bool:
    """Say whether a user has an approval with a role."""
    return any(approval.approver[0] == username.lower() and approval.role for approval in token.approvals)

"""What the cluster answers where it refuses: AWS's words where they are documented, else the stand-in's own."""

from __future__ import annotations

MARK = "tok-rehearse: "
"""What begins an answer that AWS does not document."""

# User management with quorum authentication, and the troubleshooting pages
NEEDS_APPROVAL = "Quorum approval is required for this operation"
INVALID_VALUE = "Invalid quorum value provided."
QUORUM_FAILED = "Quorum Failed"
NO_TOKEN_SIGNATURES = "No token signatures provided"  # noqa: S105 - an answer
INVALID_QUORUM_SIGNATURE = "InvalidQuorumSignature"
INCONSISTENT = "Specified user is inconsistent across the cluster"
VERIFICATION_FAILED = "Signature verification failed"
# What public scripts compare with
ACTIVATED = "Cluster has already been activated"
USER_EXISTS = "User already exists"
ANCHOR_EXISTS = "Invalid Certificate: Trust anchor already exists."


class Refused(Exception):  # noqa: N818 - an answer, no error
    """What the cluster refuses, and why: in the CLI's words where AWS documents them, else in the stand-in's own."""


def own(text: str) -> Refused:
    """Return a refusal in the stand-in's own words."""
    return Refused(f"{MARK}{text}")

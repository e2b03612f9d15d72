"""The trust anchors of a cluster for mutual TLS, and whether clients must use it."""

from __future__ import annotations

from toktools.rehearsal import software
from toktools.rehearsal.answers import ANCHOR_EXISTS, Refused, own
from toktools.rehearsal.members import ADMIN, Session
from toktools.rehearsal.quorum import Quorum

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import TokenFile

MAX_ANCHORS = 2
MAX_CHAIN = 6980
"""Bytes of a certificate chain."""
LEVELS = ("none", "cluster")


class TrustAnchors(Quorum):
    """A cluster's members and its trust anchors (AWS CloudHSM User Guide, "cluster mtls")."""

    anchors: dict[int, str]
    """Certificates in PEM by reference."""
    enforcement: str

    def register_anchor(self, session: Session, certificates: str, approval: TokenFile | None = None) -> int:
        """Register a trust anchor, and return its reference. For admins."""
        self.admin(session)
        if len(certificates.encode()) > MAX_CHAIN or not software.is_trust_anchor(certificates):
            raise own("a trust anchor is a certificate in PEM, or a chain of up to 6980 bytes, with RSA or EC keys")
        if certificates in self.anchors.values():
            raise Refused(ANCHOR_EXISTS)
        if len(self.anchors) >= MAX_ANCHORS:
            raise own(f"there are {MAX_ANCHORS} trust anchors already")
        self.approve(session, "cluster", approval)
        reference = min(set(range(1, MAX_ANCHORS + 1)) - set(self.anchors))
        self.anchors = dict(sorted({**self.anchors, reference: certificates}.items()))
        return reference

    def deregister_anchor(self, session: Session, reference: int, approval: TokenFile | None = None) -> None:
        """Remove a trust anchor, but not the last one of a cluster that enforces mutual TLS. For admins."""
        self.admin(session)
        if reference not in self.anchors:
            raise own("there is no such trust anchor")
        if len(self.anchors) == 1 and self.enforcement != LEVELS[0]:
            raise own("the cluster enforces mutual TLS, and this is its last trust anchor")
        self.approve(session, "cluster", approval)
        self.anchors = {other: text for other, text in self.anchors.items() if other != reference}

    def set_enforcement(self, session: Session, level: str, approval: TokenFile | None = None) -> None:
        """Say whether clients must use mutual TLS. For the admin named admin."""
        if self.admin(session) != ("admin", ADMIN):
            raise own("only the admin named admin can do this")
        if not self.anchors:
            raise own("there is no trust anchor: cluster mtls register-trust-anchor")
        self.approve(session, "cluster", approval)
        self.enforcement = level

"""What several must agree to: quorum values, quorum tokens, and the approvals in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import ceil

from toktools.errors import shown
from toktools.rehearsal.answers import (
    INVALID_QUORUM_SIGNATURE,
    INVALID_VALUE,
    NEEDS_APPROVAL,
    NO_TOKEN_SIGNATURES,
    Refused,
    own,
)
from toktools.rehearsal.members import ADMIN, NONCE_SIZE, Members, Name, Session, User, unsigned, verifier
from toktools.tokens import approval_data, approvals

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import TokenFile

MAX_TOKENS = 1024
APPROVERS = range(2, approvals.MAX_APPROVERS + 1)
TOKEN_LIFE = 600
"""Seconds."""


@dataclass
class Service:
    """What a quorum decides on: its name in a token file, and its number in the approval data."""

    title: str
    number: int
    single: bool = True
    """Whether a user may have one active token for it, and no more."""


# AWS shows the titles of user and key-usage alone, and their numbers, 3 and 5; the others are the stand-in's guess.
# The limit to one token is documented for user and quorum.
SERVICES = {
    "user": Service("user-management", 3),
    "quorum": Service("quorum-management", 4),
    "cluster": Service("cluster-management", 6, single=False),
}
KEY_SERVICES = {
    "key-usage": Service("key-usage", 5, single=False),
    "key-management": Service("key-management", 7, single=False),
}
REGISTRATION = Service("registration", 0)


@dataclass
class QuorumToken:
    """A quorum token that was handed out: a digest of 32 bytes, good for one operation in one session."""

    digest: bytes
    service: str
    name: Name
    session: str
    created: float
    key_reference: int = 0
    """The key that it is for; 0 for none."""


class Quorum(Members):
    """A cluster's members, and the rules for what they must approve."""

    values: dict[str, int]
    tokens: list[QuorumToken]
    _clock: Callable[[], float]

    def logout(self, session: Session) -> None:
        """End a login, and the quorum tokens of the session with it."""
        self.member(session)
        session.become(None)
        self.tokens = [token for token in self.tokens if token.session != session.id]

    def begin_registration(self, session: Session) -> Sequence[tuple[bytes, bytes]]:
        """Return approval data and digest for each HSM, for the logged-in user to sign and register with."""
        name = self.member(session)
        tokens = [self._approval_data(REGISTRATION, name, [hsm]) for hsm in range(self.hsms)]
        session.registration = [digest for _, digest in tokens]
        return tokens

    def register(self, session: Session, answer: TokenFile, public_key: str) -> Name:
        """Register a key with which the logged-in user approves."""
        user = self._user(self.member(session))
        if not session.registration:
            raise own("no registration is under way: quorum token-sign generate --service registration --token F")
        if not any(slot.text for slot in answer.slots()):
            raise Refused(INVALID_QUORUM_SIGNATURE)
        fault = unsigned(session.registration, answer, "quorum-registration", public_key)
        if fault:
            raise own(fault)
        if user.mfa and user.public_key != public_key:
            raise own("the user's MFA key is a different one, but there is one key for both")
        session.registration = ()
        user.public_key = public_key
        user.quorum = True
        return user.name

    def generate(self, session: Session, service: str) -> tuple[bytes, bytes]:
        """Return the approval data (80 bytes for each HSM) and the digest of a new quorum token. For admins."""
        name = self.admin(session)
        if self.values[service] < APPROVERS.start:
            raise own(f"the quorum value of {service} is {self.values[service]}: nothing needs an approval")
        mine = [token for token in self.live_tokens() if (token.name, token.service) == (name, service)]
        if mine and SERVICES[service].single:
            raise own(f"a quorum token for {service} is active: use it first, or quorum token-sign delete")
        approval_data, digest = self._approval_data(SERVICES[service], name, range(self.hsms))
        self._hand_out(QuorumToken(digest, service, name, session.id, self._clock()))
        return approval_data, digest

    def live_tokens(self) -> list[QuorumToken]:
        """Return the quorum tokens that have not expired."""
        return [token for token in self.tokens if self.seconds_left(token) > 0]

    def seconds_left(self, token: QuorumToken) -> int:
        """Say how long a quorum token is still good, in seconds."""
        return ceil(token.created + TOKEN_LIFE - self._clock())

    def list_tokens(self, session: Session) -> list[QuorumToken]:
        """Return the quorum tokens of all users. For whoever is logged in."""
        self.member(session)
        return self.live_tokens()

    def delete_tokens(self, session: Session, *, everyone: bool) -> None:
        """Delete one's own quorum tokens, or everyone's. For admins."""
        name = self.admin(session)
        self.tokens = [token for token in self.tokens if not everyone and token.name != name]

    def set_value(self, session: Session, service: str, value: int, approval: TokenFile | None = None) -> None:
        """Set how many must approve what a service covers: 2 to 8, not more than there are admins. For admins.

        The value of user is not above that of quorum (AWS CloudHSM User Guide, "Change the quorum minimum value"), once
        that is in force: AWS's own first-time set-up sets user to 2 while quorum is 1.
        """
        self.admin(session)
        values = {**self.values, service: value}
        above = service != "cluster" and values["user"] > values["quorum"] >= APPROVERS.start
        if value not in APPROVERS or value > self._admins() or above:
            raise Refused(INVALID_VALUE)
        self.approve(session, "quorum", approval)
        self.values = values

    def approve(self, session: Session, service: str, approval: TokenFile | None) -> None:
        """Refuse what has not the approvals that the service needs; take the token that has them, since it is spent."""
        need = self.values[service]
        if need < APPROVERS.start:
            return
        if approval is None:
            raise Refused(NEEDS_APPROVAL)
        self._spend(session, service, approval, need, self._admin_approver)

    def _admin_approver(self, username: str, role: str) -> User | None:
        return self.users.get((username, role or ADMIN)) if role in {"", ADMIN} else None

    def _hand_out(self, token: QuorumToken) -> None:
        live = self.live_tokens()
        if len(live) >= MAX_TOKENS:
            raise own(f"there are {MAX_TOKENS} tokens already")
        self.tokens = [*live, token]

    def _approval_data(self, service: Service, name: Name, hsms: Sequence[int], key: int = 0) -> tuple[bytes, bytes]:
        seconds = int(self._clock())
        records = [
            approval_data.record(service.number, hsm + 1, name[0], seconds, self._random(NONCE_SIZE), key_handle=key)
            for hsm in hsms
        ]
        return b"".join(records), sha256(b"".join(records)).digest()

    def _spend(  # noqa: PLR0913 - what there is to compare
        self,
        session: Session,
        service: str,
        approval: TokenFile,
        need: int,
        approver_named: Callable[[str, str], User | None],
        *,
        key_reference: int = 0,
    ) -> None:
        if not approval.kind.has_approvals:
            raise Refused(NO_TOKEN_SIGNATURES)
        found = [token for token in self.tokens if [token.digest] == approval.digests]
        wanted = (session.id, service, key_reference)
        if not found or (found[0].session, found[0].service, found[0].key_reference) != wanted:
            raise Refused(NEEDS_APPROVAL)
        if self.seconds_left(found[0]) <= 0:
            raise own("the quorum token has expired")
        given = [entry for entry in approval.approvals if entry.signature]
        for entry in given:
            approver = approver_named(entry.user, entry.role or "")
            if approver is None or not approver.quorum:
                raise own(f"{shown(entry.username)} is not registered as an approver")
            fault = verifier(approver.public_key, approval.digests).problem(0, entry.signature)
            if fault:
                raise own(f"approver {shown(entry.username)}: {fault}")
        people = len({entry.user for entry in given})  # an admin may be there with the role and without it
        if people < need:
            raise Refused(f"Too few quorum approvals: currently {people} approvals, but {need} approvals required")
        self.tokens.remove(found[0])

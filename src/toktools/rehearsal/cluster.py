"""A cluster in memory that keeps the rules of an HSM: users, second factors, quorum. It reads and writes nothing.

The rules are those of the AWS CloudHSM User Guide ("HSM users", "MFA for CloudHSM CLI", "Quorum authentication",
"Quotas"). Where the guide is silent, the rule is the stand-in's own, and so are its words, which begin with MARK.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import scrypt, sha256
from hmac import compare_digest
from math import ceil

from toktools import approvaldata, approvers, encoding
from toktools.errors import shown
from toktools.keys import public
from toktools.signatures import Verifier
from toktools.usernames import is_user

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokenfile import TokenFile

MARK = "tok-rehearse: "
"""What begins an answer that AWS does not document."""

ADMIN, CRYPTO_USER = approvers.ROLES
MAX_USERS = 1024
MAX_TOKENS = 1024
MAX_FAILURES = 5
"""Wrong logins in a row that do not yet lock a user."""
PASSWORD_SIZES = range(8, 32 + 1)
"""Characters of a password."""
APPROVERS = range(2, approvers.MAX_APPROVERS + 1)
TOKEN_LIFE = 600
"""Seconds."""

NEEDS_APPROVAL = "Quorum approval is required for this operation"
INVALID_VALUE = "Invalid quorum value provided."
NO_TOKEN_SIGNATURES = "No token signatures provided"  # noqa: S105 - an answer
INVALID_QUORUM_SIGNATURE = "InvalidQuorumSignature"

_NONCE_SIZE = 16


@dataclass(frozen=True)
class Service:
    """What a quorum decides on: its name in a token file, and its number in the approval data."""

    title: str
    number: int


# AWS shows the title of user alone, and the numbers 3 (user) and 5 (key-usage); the others are the stand-in's guess.
SERVICES = {
    "user": Service("user-management", 3),
    "quorum": Service("quorum-management", 4),
    "cluster": Service("cluster-management", 6),
}
REGISTRATION = Service("registration", 0)

Name = tuple[str, str]
"""A user name in lower case, and a role."""


class Refused(Exception):  # noqa: N818 - an answer, no error
    """What the cluster refuses, and why: in the CLI's words where AWS documents them, else in the stand-in's own."""


def own(text: str) -> Refused:
    """Return a refusal in the stand-in's own words."""
    return Refused(f"{MARK}{text}")


def _new_id() -> str:
    return os.urandom(16).hex()


@dataclass
class User:
    """A user: the password as scrypt of it, and the one public key, which MFA and quorum share."""

    name: Name
    salt: bytes
    hashed: bytes
    failures: int = 0
    """Wrong logins since the last right one."""
    public_key: str = ""
    """PEM; empty while neither MFA nor quorum has registered one."""
    mfa: bool = False
    quorum: bool = False
    id: str = field(default_factory=_new_id)
    """What tells a user from a later one of the same name."""

    @property
    def locked(self) -> bool:
        """Say whether no login is taken any more."""
        return self.failures > MAX_FAILURES


@dataclass(frozen=True)
class QuorumToken:
    """A quorum token that was handed out: a digest of 32 bytes, good for one operation in one session."""

    digest: bytes
    service: str
    name: Name
    session: str
    created: float


@dataclass(frozen=True)
class Challenge:
    """A login or an MFA set-up under way: the digests that must come back signed, 32 bytes for each HSM."""

    name: Name
    salt: bytes
    """The user's, which changes with the password."""
    digests: Sequence[bytes]
    password: str = field(default="", repr=False)
    """The new one, for a set-up."""


@dataclass
class Session:
    """One shell: who is logged in, and what it has asked to be signed."""

    id: str = field(default_factory=_new_id)
    name: Name | None = None
    user_id: str = ""
    challenge: Challenge | None = None
    registration: Sequence[bytes] = ()
    """The digests of a quorum registration under way."""

    def become(self, user: User | None) -> None:
        """Log somebody in, or out; what was under way is over."""
        self.name, self.user_id = (user.name, user.id) if user else (None, "")
        self.challenge, self.registration = None, ()


class Cluster:
    """Users, quorum values and quorum tokens, with the rules for changing them; what is against a rule is Refused.

    Every method checks first and changes then, but for one thing: a wrong login is counted though it is refused.
    """

    def __init__(  # noqa: PLR0913 - what there is, and two sources to replace in tests
        self,
        hsms: int,
        users: dict[Name, User] | None = None,
        values: dict[str, int] | None = None,
        tokens: list[QuorumToken] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.hsms = hsms
        self.users = users or {}
        self.values = values or dict.fromkeys(SERVICES, 1)
        self.tokens = tokens or []
        self._clock = clock
        self._random = random

    # Users

    def activate(self, password: str) -> None:
        """Make the first admin, whose name is admin."""
        if self.users:
            raise own("the cluster is already activated")
        _check_password(password)
        self._add(("admin", ADMIN), password)

    def create(self, session: Session, name: Name, password: str, approval: TokenFile | None = None) -> None:
        """Make a user. For admins."""
        self._admin(session)
        if not is_user(name[0]):
            raise own("a user name has 1 to 31 letters, digits and underscores")
        if name in self.users:
            raise own("there is such a user already")
        if len(self.users) >= MAX_USERS:
            raise own(f"there are {MAX_USERS} users already")
        _check_password(password)
        self._approve(session, "user", approval)
        self._add(name, password)

    def delete(self, session: Session, name: Name, approval: TokenFile | None = None) -> None:
        """Remove a user, but not the one who is logged in. For admins."""
        self._admin(session)
        user = self._user(name)
        if name == session.name:
            raise own("a user who is logged in cannot be deleted")
        if name[1] == ADMIN and self._admins() <= max(self.values.values()):
            raise own("there would be fewer admins than a quorum needs")
        self._approve(session, "user", approval)
        del self.users[user.name]
        self.tokens = [token for token in self.tokens if token.name != name]

    def change_password(
        self,
        session: Session,
        name: Name,
        password: str,
        approval: TokenFile | None = None,
        *,
        deregister_mfa: bool = False,
    ) -> None:
        """Change a password, and so unlock the user; the quorum registration goes with it, and MFA where it shall."""
        user = self._changeable(session, name)
        _check_password(password)
        self._approve_for(session, name, approval)
        self._set_password(user, password)
        user.quorum = False
        user.mfa = user.mfa and not deregister_mfa
        if not user.mfa:
            user.public_key = ""

    # Logging in

    def login(self, session: Session, name: Name, password: str) -> None:
        """Log in a user who has no second factor."""
        if self._authenticated(session, name, password).mfa:
            raise own("the user has a second factor: login --username U --role R mfa-token-sign --token F")
        self._enter(session, self.users[name])

    def begin_mfa_login(self, session: Session, name: Name, password: str) -> Sequence[bytes]:
        """Check the password, and return the digests to be signed, 32 bytes for each HSM, fresh for this attempt."""
        user = self._authenticated(session, name, password)
        if not user.mfa:
            raise own("the user has no second factor: login --username U --role R")
        return self._begin(session, user)

    def end_mfa_login(self, session: Session, answer: TokenFile) -> None:
        """Log in, if every digest is signed by the registered key. A wrong second factor counts as a wrong login."""
        challenge = _taken(session)
        user = self._user(challenge.name)
        self._refuse_locked(user)
        if user.salt != challenge.salt or not user.mfa:
            raise own("the user's password or second factor was changed meanwhile")
        try:
            _check_signed(challenge.digests, answer, "mfa", user.public_key)
        except Refused:
            user.failures += 1
            raise
        self._enter(session, user)

    def logout(self, session: Session) -> None:
        """End a login, and the quorum tokens of the session with it."""
        self._member(session)
        session.become(None)
        self.tokens = [token for token in self.tokens if token.session != session.id]

    # The second factor

    def begin_mfa_change(self, session: Session, name: Name, password: str) -> Sequence[bytes]:
        """Return the digests that the new key must sign, 32 bytes for each HSM."""
        user = self._changeable(session, name)
        _check_password(password)
        return self._begin(session, user, password)

    def end_mfa_change(
        self,
        session: Session,
        answer: TokenFile,
        public_key: str,
        approval: TokenFile | None = None,
        *,
        change_quorum: bool = False,
    ) -> None:
        """Register a key (PEM) for MFA, the first or a new one, and set the password; this makes an approver too."""
        challenge = _taken(session)
        user = self._changeable(session, challenge.name)
        _check_signed(challenge.digests, answer, "mfa", public_key)
        if user.quorum and user.public_key != public_key and not change_quorum:
            raise own("the user's quorum key is another, and there is one key for both: --change-quorum changes it too")
        self._approve_for(session, user.name, approval)
        self._set_password(user, challenge.password)
        user.public_key = public_key
        user.mfa = user.quorum = True

    def deregister_mfa(self, session: Session, name: Name, password: str, approval: TokenFile | None = None) -> None:
        """Take the second factor away, and the quorum registration with it, and set the password."""
        user = self._changeable(session, name)
        if not user.mfa:
            raise own("the user has no second factor")
        self.change_password(session, name, password, approval, deregister_mfa=True)

    # Quorum

    def begin_registration(self, session: Session) -> Sequence[tuple[bytes, bytes]]:
        """Return approval data and digest for each HSM, for the logged-in user to sign and register with."""
        name = self._member(session)
        tokens = [self._approval_data(REGISTRATION, name, [hsm]) for hsm in range(self.hsms)]
        session.registration = [digest for _, digest in tokens]
        return tokens

    def register(self, session: Session, answer: TokenFile, public_key: str) -> Name:
        """Register a key with which the logged-in user approves."""
        user = self._user(self._member(session))
        if not session.registration:
            raise own("no registration is under way: quorum token-sign generate --service registration --token F")
        if not any(place.text for place in answer.places()):
            raise Refused(INVALID_QUORUM_SIGNATURE)
        _check_signed(session.registration, answer, "quorum-registration", public_key)
        if user.mfa and user.public_key != public_key:
            raise own("the user's MFA key is another, and there is one key for both")
        session.registration = ()
        user.public_key = public_key
        user.quorum = True
        return user.name

    def generate(self, session: Session, service: str) -> tuple[bytes, bytes]:
        """Return the approval data (80 bytes for each HSM) and the digest of a new quorum token. For admins.

        It takes the place of the admin's earlier one for the service.
        """
        name = self._admin(session)
        if self.values[service] < APPROVERS.start:
            raise own(f"the quorum value of {service} is {self.values[service]}: nothing needs an approval")
        others = [token for token in self.live_tokens() if (token.name, token.service) != (name, service)]
        if len(others) >= MAX_TOKENS:
            raise own(f"there are {MAX_TOKENS} tokens already")
        approval_data, digest = self._approval_data(SERVICES[service], name, range(self.hsms))
        self.tokens = [*others, QuorumToken(digest, service, name, session.id, self._clock())]
        return approval_data, digest

    def live_tokens(self) -> list[QuorumToken]:
        """Return the quorum tokens that have not expired."""
        return [token for token in self.tokens if self.seconds_left(token) > 0]

    def seconds_left(self, token: QuorumToken) -> int:
        """Say how long a quorum token is still good, in seconds."""
        return ceil(token.created + TOKEN_LIFE - self._clock())

    def list_tokens(self, session: Session) -> list[QuorumToken]:
        """Return the quorum tokens of all users. For whoever is logged in."""
        self._member(session)
        return self.live_tokens()

    def delete_tokens(self, session: Session, *, everyone: bool) -> None:
        """Delete one's own quorum tokens, or everyone's. For admins."""
        name = self._admin(session)
        self.tokens = [token for token in self.tokens if not everyone and token.name != name]

    def set_value(self, session: Session, service: str, value: int, approval: TokenFile | None = None) -> None:
        """Set how many must approve what a service covers: 2 to 8, not more than there are admins. For admins."""
        self._admin(session)
        if value not in APPROVERS or value > self._admins():
            raise Refused(INVALID_VALUE)
        self._approve(session, "quorum", approval)
        self.values[service] = value

    # What the rules are made of

    def _member(self, session: Session) -> Name:
        user = self.users.get(session.name) if session.name else None
        if user is None or user.id != session.user_id:  # another shell may have deleted the user
            session.become(None)
        if session.name is None:
            raise own("nobody is logged in: login --username U --role R")
        return session.name

    def _admins(self) -> int:
        return sum(role == ADMIN for _, role in self.users)

    def _admin(self, session: Session) -> Name:
        name = self._member(session)
        if name[1] != ADMIN:
            raise own("only an admin can do this")
        return name

    def _user(self, name: Name) -> User:
        if name not in self.users:
            raise own("there is no such user")
        return self.users[name]

    def _changeable(self, session: Session, name: Name) -> User:
        if self._member(session) == name:
            self._refuse_locked(self.users[name])
        else:
            self._admin(session)
        return self._user(name)

    def _authenticated(self, session: Session, name: Name, password: str) -> User:
        if not self.users:
            raise own("the cluster is not activated: cluster activate")
        if session.name in self.users:
            raise own("somebody is logged in: logout comes first")
        user = self.users.get(name)
        if user is not None:
            self._refuse_locked(user)
            if compare_digest(_hash(password, user.salt), user.hashed):
                return user
            user.failures += 1
        raise own("wrong user name, role or password")

    def _refuse_locked(self, user: User) -> None:
        if user.locked:
            raise own("the user is locked; an admin unlocks with user change-password")

    @staticmethod
    def _enter(session: Session, user: User) -> None:
        user.failures = 0
        session.become(user)

    def _add(self, name: Name, password: str) -> None:
        user = User(name, b"", b"")
        self._set_password(user, password)
        self.users[name] = user

    def _set_password(self, user: User, password: str) -> None:
        user.salt = self._random(_NONCE_SIZE)
        user.hashed = _hash(password, user.salt)
        user.failures = 0

    def _begin(self, session: Session, user: User, password: str = "") -> Sequence[bytes]:
        digests = [self._random(encoding.DIGEST_SIZE) for _ in range(self.hsms)]
        session.challenge = Challenge(user.name, user.salt, digests, password)
        return digests

    def _approval_data(self, service: Service, name: Name, hsms: Sequence[int]) -> tuple[bytes, bytes]:
        records = [
            approvaldata.record(service.number, hsm + 1, name[0], int(self._clock()), self._random(_NONCE_SIZE))
            for hsm in hsms
        ]
        return b"".join(records), sha256(b"".join(records)).digest()

    def _approve_for(self, session: Session, name: Name, approval: TokenFile | None) -> None:
        if name != session.name:  # nobody needs others for what is one's own
            self._approve(session, "user", approval)

    def _approve(self, session: Session, service: str, approval: TokenFile | None) -> None:
        """Refuse what has not the approvals that the service needs; take the token that has them, since it is spent."""
        need = self.values[service]
        if need < APPROVERS.start:
            return
        if approval is None:
            raise Refused(NEEDS_APPROVAL)
        if not approval.shape.approvals:
            raise Refused(NO_TOKEN_SIGNATURES)
        found = [token for token in self.tokens if [token.digest] == approval.digests]
        if not found or (found[0].session, found[0].service) != (session.id, service):
            raise Refused(NEEDS_APPROVAL)
        if self.seconds_left(found[0]) <= 0:
            raise own("the quorum token has expired")
        given = [entry for entry in approval.approvals if entry.signature]
        for entry in given:
            approver = self.users.get((entry.approver[0], entry.role or ADMIN))
            if approver is None or approver.name[1] != ADMIN or not approver.quorum:
                raise own(f"{shown(entry.username)} is not registered as an approver")
            fault = _verifier(approver.public_key, approval.digests).fault(0, entry.signature)
            if fault:
                raise own(f"approver {shown(entry.username)}: {fault}")
        people = len({entry.approver[0] for entry in given})  # an admin may be there with the role and without it
        if people < need:
            raise Refused(f"Too few quorum approvals: currently {people} approvals, but {need} approvals required")
        self.tokens.remove(found[0])


def _taken(session: Session) -> Challenge:
    """Return what is under way, which is over with this answer, right or wrong."""
    challenge, session.challenge = session.challenge, None
    if challenge is None:
        raise own("nothing is under way that needs a signature")
    return challenge


def _check_signed(digests: Sequence[bytes], answer: TokenFile, kind: str, public_key: str) -> None:
    """Refuse an answer in which not every digest of this attempt is signed by the key, as each HSM would."""
    if answer.shape.kind != kind:
        raise own(f"a token file of the kind {kind} is needed, and this is of the kind {answer.shape.kind}")
    signed = {answer.digests[place.index]: place.text for place in answer.places()}
    missing = sum(digest not in signed for digest in digests)
    if missing:
        raise own(f"the file lacks {missing} of the {encoding.count(len(digests), 'digest')} of this attempt")
    verifier = _verifier(public_key, digests)
    for index, digest in enumerate(digests):
        fault = verifier.fault(index, signed[digest])
        if fault:
            raise own(f"token {index + 1}: {fault}")


def _verifier(public_key: str, digests: Sequence[bytes]) -> Verifier:
    return Verifier([public.parse(public_key, "public key")], digests)


def _check_password(password: str) -> None:
    if len(password) not in PASSWORD_SIZES:
        raise own(f"a password has {PASSWORD_SIZES.start} to {PASSWORD_SIZES.stop - 1} characters")


def _hash(password: str, salt: bytes) -> bytes:
    """Return scrypt (RFC 7914) of a password: 64 bytes, for 16 MiB and some 50 ms."""
    return scrypt(password.encode(errors="surrogateescape"), salt=salt, n=1 << 14, r=8, p=1)

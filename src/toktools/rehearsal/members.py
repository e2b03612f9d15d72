"""Who there is in a cluster, and who is logged in: users, passwords, second factors, sessions."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import scrypt
from hmac import compare_digest

from toktools import encoding
from toktools.keys.files import parse_public_key
from toktools.rehearsal import software
from toktools.rehearsal.answers import own
from toktools.signatures import Verifier
from toktools.tokens import approvals

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import TokenFile

ADMIN, CRYPTO_USER = approvals.ROLES
MAX_FAILURES = 5
"""Wrong logins in a row that do not yet lock a user."""
PASSWORD_SIZES = range(8, 32 + 1)
"""Characters of a password."""
NONCE_SIZE = 16
_HASH_SIZE = 64

Name = tuple[str, str]
"""A user name in lower case, and a role."""


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
    wrapped: bytes = b""
    """The cluster's secret, wrapped under a key that is derived from the password."""
    inconsistent: str = ""
    """The cluster of which some HSMs do not know the user; empty where all do."""

    @property
    def locked(self) -> bool:
        """Say whether no login is taken any more."""
        return self.failures > MAX_FAILURES


@dataclass
class Challenge:
    """A login or an MFA set-up under way: the digests that must come back signed, 32 bytes for each HSM."""

    name: Name
    salt: bytes
    """The user's, which changes with the password."""
    digests: Sequence[bytes]
    password: str = field(repr=False)
    """The new one, for a set-up."""
    secret: bytes = field(repr=False)
    """The cluster's, for a login."""


@dataclass
class Session:
    """One shell: who is logged in, and what it has asked to be signed."""

    id: str = field(default_factory=_new_id)
    name: Name | None = None
    user_id: str = ""
    secret: bytes = field(default=b"", repr=False)
    """The cluster's, which wraps its keys; a password brings it to light."""
    challenge: Challenge | None = None
    registration: Sequence[bytes] = ()
    """The digests of a quorum registration under way."""

    def become(self, user: User | None, secret: bytes = b"") -> None:
        """Log somebody in, or out; what was under way is over."""
        self.name, self.user_id = (user.name, user.id) if user else (None, "")
        self.secret = secret
        self.challenge, self.registration = None, ()


class Members:
    """The users of a cluster, and what a login asks of them."""

    hsms: int
    users: dict[Name, User]
    _random: Callable[[int], bytes]

    def login(self, session: Session, name: Name, password: str) -> None:
        """Log in a user who has no second factor."""
        user, secret = self._authenticated(session, name, password)
        if user.mfa:
            raise own("the user has a second factor: login --username U --role R mfa-token-sign --token F")
        self._enter(session, user, secret)

    def begin_mfa_login(self, session: Session, name: Name, password: str) -> Sequence[bytes]:
        """Check the password, and return the digests to be signed, 32 bytes for each HSM, fresh for this attempt."""
        user, secret = self._authenticated(session, name, password)
        if not user.mfa:
            raise own("the user has no second factor: login --username U --role R")
        return self._begin(session, user, secret=secret)

    def end_mfa_login(self, session: Session, answer: TokenFile) -> None:
        """Log in, if every digest is signed by the registered key. A wrong second factor counts as a wrong login."""
        challenge = taken(session)
        user = self._user(challenge.name)
        self._refuse_locked(user)
        if user.salt != challenge.salt:  # which is new with every change of the second factor too
            raise own("the user's password or second factor was changed meanwhile")
        fault = unsigned(challenge.digests, answer, "mfa", user.public_key)
        if fault:
            user.failures += 1
            raise own(fault)
        self._enter(session, user, challenge.secret)

    def member(self, session: Session) -> Name:
        """Return who is logged in, or refuse."""
        user = self.users.get(session.name) if session.name else None
        if user is None or user.id != session.user_id:  # another shell may have deleted the user
            session.become(None)
        if session.name is None:
            raise own("nobody is logged in: login --username U --role R")
        return session.name

    def admin(self, session: Session) -> Name:
        """Return the admin who is logged in, or refuse."""
        if not self.is_admin(session):
            raise own("only an admin can do this")
        return self.member(session)

    def is_admin(self, session: Session) -> bool:
        """Say whether an admin is logged in."""
        return self.member(session)[1] == ADMIN

    def _admins(self) -> int:
        return sum(role == ADMIN for _, role in self.users)

    def _user(self, name: Name) -> User:
        if name not in self.users:
            raise own("there is no such user")
        return self.users[name]

    def _authenticated(self, session: Session, name: Name, password: str) -> tuple[User, bytes]:
        if not self.users:
            raise own("the cluster is not activated: cluster activate")
        if session.name in self.users:
            raise own("a user is logged in already: log out first")
        user = self.users.get(name)
        if user is not None:
            self._refuse_locked(user)
            hashed, key = _hash(password, user.salt)
            if compare_digest(hashed, user.hashed):
                return user, software.unwrap(key, user.wrapped)
            user.failures += 1
        raise own("wrong user name, role or password")

    @staticmethod
    def _refuse_locked(user: User) -> None:
        if user.locked:
            raise own("the user is locked; an admin unlocks with user change-password")

    @staticmethod
    def _enter(session: Session, user: User, secret: bytes) -> None:
        user.failures = 0
        session.become(user, secret)

    def _add(self, name: Name, password: str, secret: bytes) -> None:
        user = User(name, b"", b"")
        self._set_password(user, password, secret)
        self.users[name] = user

    def _set_password(self, user: User, password: str, secret: bytes) -> None:
        user.salt = self._random(NONCE_SIZE)
        user.hashed, key = _hash(password, user.salt)
        user.wrapped = software.wrap(key, secret)
        user.failures = 0

    def _begin(self, session: Session, user: User, password: str = "", secret: bytes = b"") -> Sequence[bytes]:
        digests = [self._random(encoding.DIGEST_SIZE) for _ in range(self.hsms)]
        session.challenge = Challenge(user.name, user.salt, digests, password, secret)
        return digests


def taken(session: Session) -> Challenge:
    """Return what is under way, which is over with this answer, right or wrong."""
    challenge, session.challenge = session.challenge, None
    if challenge is None:
        raise own("no operation is waiting for a signature")
    return challenge


def unsigned(digests: Sequence[bytes], answer: TokenFile, kind: str, public_key: str) -> str:
    """Say why an answer has not every digest of this attempt signed by the key, as each HSM would, if so."""
    if answer.kind.name != kind:
        return f"a token file of the kind {kind} is needed, and this is of the kind {answer.kind.name}"
    signed = {slot.digest: slot.text for slot in answer.slots()}
    missing = sum(digest not in signed for digest in digests)
    if missing:
        return f"the file lacks {missing} of the {encoding.count(len(digests), 'digest')} of this attempt"
    check = verifier(public_key, digests)
    faults = ((index, check.problem(index, signed[digest])) for index, digest in enumerate(digests))
    return next((f"token {index + 1}: {fault}" for index, fault in faults if fault), "")


def verifier(public_key: str, digests: Sequence[bytes]) -> Verifier:
    """Return what checks signatures of digests with a key in PEM."""
    return Verifier([parse_public_key(public_key, "public key")], digests)


def check_password(password: str) -> None:
    """Refuse what is no password (AWS CloudHSM User Guide, user create)."""
    if len(password) not in PASSWORD_SIZES:
        raise own(f"a password has {PASSWORD_SIZES.start} to {PASSWORD_SIZES.stop - 1} characters")
    if ":" in password:
        raise own("a password has no colon")


def _hash(password: str, salt: bytes) -> tuple[bytes, bytes]:
    """Return scrypt (RFC 7914) of a password, for 16 MiB and some 50 ms: 64 bytes to know it by, 32 to wrap with."""
    found = scrypt(
        password.encode(errors="surrogateescape"),
        salt=salt,
        n=1 << 14,
        r=8,
        p=1,
        dklen=_HASH_SIZE + software.SECRET_SIZE,
    )
    return found[:_HASH_SIZE], found[_HASH_SIZE:]

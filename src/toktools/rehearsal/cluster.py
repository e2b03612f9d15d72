"""A cluster in memory that keeps the rules of an HSM: users, passwords, second factors, quorum.

The rules are those of the AWS CloudHSM User Guide ("HSM users", "MFA for CloudHSM CLI", "Quorum authentication",
"Quotas"). If the guide is silent, the rule is the stand-in's own, and so are its words.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import pbkdf2_hmac, sha256
from hmac import compare_digest
from math import ceil

from toktools import encoding
from toktools.errors import ToktoolsError, shown
from toktools.keys.files import parse_public_key
from toktools.signatures import Verifier
from toktools.tokens import approval_data, approvals
from toktools.tokens.approvals import is_user_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.rehearsal.keys import Key
    from toktools.tokens.tokenfile import TokenFile

MARK = "tok-rehearse: "
"""The beginning of an answer that AWS does not document."""
ADMIN, CRYPTO_USER = approvals.ROLES
MAX_FAILURES = 5
"""The number of wrong logins in a row that do not lock a user yet."""
PASSWORD_SIZES = range(8, 32 + 1)
"""The numbers of characters that a password may have."""
APPROVERS = range(2, approvals.MAX_APPROVERS + 1)
TOKEN_LIFE_SECONDS = 600
ITERATIONS = 100_000
"""Rounds of PBKDF2 for each password: some 50 ms."""
_NONCE_SIZE = 16

# AWS's answers: "User management with quorum authentication", the troubleshooting pages, and public scripts
NEEDS_APPROVAL = "Quorum approval is required for this operation"
INVALID_VALUE = "Invalid quorum value provided."

# AWS shows the names of user and key-usage alone, and their numbers, 3 and 5; the others are the stand-in's guess.
SERVICES = {"user": "user-management", "quorum": "quorum-management", "cluster": "cluster-management"}
"""The services that several admins approve, and the name of each in a token file."""
KEY_SERVICES = ("key-usage", "key-management")
"""The services that the owner of a key and its shared users approve."""
REGISTRATION = "registration"
_NUMBERS = {REGISTRATION: 0, "user": 3, "quorum": 4, "key-usage": 5, "cluster": 6, "key-management": 7}
"""Of the services, in approval data."""

Name = tuple[str, str]
"""A user name in lower case, and a role."""


class Refused(Exception):  # noqa: N818 - an answer, no error
    """A refusal of the cluster, in the CLI's words if AWS documents them, else in the stand-in's own."""


def refusal(text: str) -> Refused:
    """Return a refusal in the stand-in's own words."""
    return Refused(f"{MARK}{text}")


@dataclass
class User:
    """A user: the password as a hash, and the one public key, which MFA and quorum share."""

    username: str
    role: str
    salt: str = ""
    hashed: str = ""
    failures: int = 0
    """Wrong logins since the last right one."""
    public_key: str = ""
    """PEM, or empty if neither MFA nor quorum has registered a key."""
    mfa: bool = False
    quorum: bool = False

    @property
    def name(self) -> Name:
        """The user name and the role; only both together are unique."""
        return self.username, self.role

    @property
    def locked(self) -> bool:
        """Whether the user is locked."""
        return self.failures > MAX_FAILURES


@dataclass
class QuorumToken:
    """A quorum token: a digest (base64), good for one operation in one session, on one key if it has a reference."""

    digest: str
    service: str
    username: str
    role: str
    session: str
    created: float
    key_reference: int = 0


@dataclass
class Session:
    """One shell: the user who is logged in, and the quorum registration in progress."""

    id: str = field(default_factory=lambda: f"{os.getpid()}-{os.urandom(16).hex()}")
    """Begins with the number of the process."""
    name: Name | None = None
    registration: Sequence[bytes] = ()
    """The digests of the registration, one for each HSM."""

    def become(self, name: Name | None) -> None:
        """Log a user in, or out with None, and end any registration in progress."""
        self.name, self.registration = name, ()


@dataclass
class Cluster:
    """Users, quorum values, quorum tokens and keys. Raises Refused for what breaks a rule.

    Every method checks before it changes anything, but counts a wrong login that it refuses.
    """

    hsms: int
    users: dict[Name, User] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SERVICES, 1))
    tokens: list[QuorumToken] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)

    # Sessions

    def login(self, session: Session, name: Name, password: str) -> None:
        """Log in a user who has no second factor."""
        self._enter(session, self._authenticated(session, name, password, mfa=False))

    def check_mfa_login(self, session: Session, name: Name, password: str) -> list[bytes]:
        """Check the password, and return the digests to be signed."""
        self._authenticated(session, name, password, mfa=True)
        return self._new_digests()

    def mfa_login(
        self, session: Session, name: Name, password: str, digests: Sequence[bytes], answer: TokenFile
    ) -> None:
        """Log in, if every digest is signed by the registered key. A wrong second factor counts as a wrong login.

        The password is checked again: an admin may have changed the user meanwhile.
        """
        user = self._authenticated(session, name, password, mfa=True)
        try:
            _check_signatures(digests, answer, user.public_key, f"{name[0]}'s registered key")
        except Refused:
            user.failures += 1
            raise
        self._enter(session, user)

    def logout(self, session: Session) -> None:
        """End a login, and drop its quorum tokens."""
        self.member(session)
        session.become(None)
        self.tokens = [token for token in self.tokens if token.session != session.id]

    def drop_dead_tokens(self) -> None:
        """Drop the quorum tokens of sessions whose process has ended."""
        self.tokens = [token for token in self.tokens if _is_running(int(token.session.partition("-")[0]))]

    def member(self, session: Session) -> Name:
        """Return the user who is logged in, or refuse."""
        if session.name not in self.users:  # another shell may have deleted the user
            session.become(None)
        if session.name is None:
            raise refusal("nobody is logged in: login --username U --role R")
        return session.name

    def admin(self, session: Session) -> Name:
        """Return the admin who is logged in, or refuse."""
        name = self.member(session)
        if name[1] != ADMIN:
            raise refusal("only an admin can do this")
        return name

    # Users

    def activate(self, password: str) -> None:
        """Create the first admin, named admin."""
        if self.users:
            raise Refused("Cluster has already been activated")
        _check_password(password)
        self._add(("admin", ADMIN), password)

    def create(self, session: Session, name: Name, password: str, approval: TokenFile | None = None) -> None:
        """Create a user. For admins."""
        self.admin(session)
        if not is_user_name(name[0]):
            raise refusal("a user name has 1 to 31 letters, digits and underscores")
        if name in self.users:
            raise Refused("User already exists")
        _check_password(password)
        self.approve(session, "user", approval)
        self._add(name, password)

    def delete(self, session: Session, name: Name, approval: TokenFile | None = None) -> None:
        """Delete a user, but not the one who is logged in. For admins."""
        self.admin(session)
        self.user(name)
        if name == session.name:
            raise refusal("a user who is logged in cannot be deleted")
        if name[1] == ADMIN and self._admins() <= max(self.values.values()):
            raise refusal("there would be fewer admins than a quorum needs")
        self.approve(session, "user", approval)
        del self.users[name]
        self.tokens = [token for token in self.tokens if (token.username, token.role) != name]
        if name[1] == CRYPTO_USER:
            self.keys = [key for key in self.keys if key.owner != name[0]]
            for key in self.keys:
                key.shared = [username for username in key.shared if username != name[0]]

    def change_password(
        self,
        session: Session,
        name: Name,
        password: str,
        approval: TokenFile | None = None,
        *,
        deregister_mfa: bool = False,
    ) -> None:
        """Change a password, unlock the user, and remove the quorum registration, and MFA if asked."""
        user = self._changeable(session, name)
        _check_password(password)
        self._approve_for(session, name, approval)
        _set_password(user, password)
        user.quorum = False
        user.mfa = user.mfa and not deregister_mfa
        if not user.mfa:
            user.public_key = ""

    def check_mfa_change(self, session: Session, name: Name, password: str) -> list[bytes]:
        """Check the new password, and return the digests that the new key must sign."""
        self._changeable(session, name)
        _check_password(password)
        return self._new_digests()

    def change_mfa(  # noqa: PLR0913, PLR0917 - as many as the command has
        self,
        session: Session,
        name: Name,
        password: str,
        digests: Sequence[bytes],
        answer: TokenFile,
        public_key: str,
        approval: TokenFile | None,
        *,
        change_quorum: bool,
    ) -> None:
        """Register a key (PEM) for MFA, which makes the user an approver too, and set the password."""
        user = self._changeable(session, name)
        _check_signatures(digests, answer, public_key, "the key to be registered")
        if user.quorum and user.public_key != public_key and not change_quorum:
            raise refusal(
                "a user has one key for MFA and quorum, and this is not the quorum key; --change-quorum replaces it too"
            )
        self._approve_for(session, name, approval)
        _set_password(user, password)
        user.public_key = public_key
        user.mfa = user.quorum = True

    def deregister_mfa(self, session: Session, name: Name, password: str, approval: TokenFile | None = None) -> None:
        """Remove the second factor, and the quorum registration with it, and set the password."""
        if not self._changeable(session, name).mfa:
            raise refusal("the user has no second factor")
        self.change_password(session, name, password, approval, deregister_mfa=True)

    def user(self, name: Name) -> User:
        """Return a user, or refuse."""
        if name not in self.users:
            raise refusal("there is no such user")
        return self.users[name]

    # Quorum

    def begin_registration(self, session: Session) -> Sequence[tuple[bytes, bytes]]:
        """Return approval data and digest for each HSM, with which the logged-in user registers a key."""
        name = self.member(session)
        tokens = [_approval_data(REGISTRATION, name[0], [hsm]) for hsm in range(self.hsms)]
        session.registration = [digest for _, digest in tokens]
        return tokens

    def register(self, session: Session, answer: TokenFile, public_key: str) -> Name:
        """Register a key with which the logged-in user approves."""
        user = self.user(self.member(session))
        if not session.registration:
            raise refusal("no registration is in progress: quorum token-sign generate --service registration --token F")
        if not any(slot.text for slot in answer.slots()):
            raise Refused("InvalidQuorumSignature")
        _check_signatures(session.registration, answer, public_key, "the key to be registered")
        if user.mfa and user.public_key != public_key:
            raise refusal("a user has one key for MFA and quorum, and this is not the MFA key")
        session.registration = ()
        user.public_key = public_key
        user.quorum = True
        return user.name

    def generate(self, session: Session, service: str) -> tuple[bytes, bytes]:
        """Return the approval data (80 bytes for each HSM) and the digest of a new quorum token. For admins."""
        name = self.admin(session)
        if self.values[service] < APPROVERS.start:
            raise refusal(f"the quorum value of {service} is {self.values[service]}: nothing needs an approval")
        active = [(token.username, token.role, token.service) for token in self.live_tokens()]
        if (*name, service) in active:
            raise refusal(
                f"a quorum token for {service} is active: use it first, or delete it with quorum token-sign delete"
            )
        return self.issue(session, service)

    def issue(self, session: Session, service: str, key_reference: int = 0) -> tuple[bytes, bytes]:
        """Keep a new quorum token for the logged-in user, and return its approval data and digest."""
        user = self.member(session)
        approval_data, digest = _approval_data(service, user[0], range(self.hsms), key_reference)
        token = QuorumToken(encoding.encode(digest).decode(), service, *user, session.id, time.time(), key_reference)
        self.tokens = [*self.live_tokens(), token]
        return approval_data, digest

    def live_tokens(self) -> list[QuorumToken]:
        """Return the quorum tokens that have not expired."""
        return [token for token in self.tokens if seconds_left(token) > 0]

    def delete_tokens(self, session: Session, *, everyone: bool) -> None:
        """Delete the admin's own quorum tokens, or everyone's. For admins."""
        name = self.admin(session)
        self.tokens = [token for token in self.tokens if not everyone and (token.username, token.role) != name]

    def set_value(self, session: Session, service: str, value: int, approval: TokenFile | None = None) -> None:
        """Set how many must approve what a service covers: 2 to 8, not more than there are admins. For admins.

        The value of user must not exceed that of quorum (AWS CloudHSM User Guide, "Change the quorum minimum value"),
        once the latter is 2 or more: AWS's own first-time set-up sets user to 2 while quorum is 1.
        """
        self.admin(session)
        values = {**self.values, service: value}
        above = service != "cluster" and values["user"] > values["quorum"] >= APPROVERS.start
        if value not in APPROVERS or value > self._admins() or above:
            raise Refused(INVALID_VALUE)
        self.approve(session, "quorum", approval)
        self.values = values

    def approve(self, session: Session, service: str, approval: TokenFile | None) -> None:
        """Refuse an operation without the approvals that the service needs, or use up the token that has them."""
        admins = [name for name in self.users if name[1] == ADMIN]
        self.spend(session, service, approval, self.values[service], admins)

    def spend(  # noqa: PLR0913, PLR0917 - what there is to compare
        self,
        session: Session,
        service: str,
        approval: TokenFile | None,
        need: int,
        approvers: Sequence[Name],
        key_reference: int = 0,
    ) -> None:
        """Use up the token of an approval, if one is needed. Raises Refused if it is not good enough."""
        if need < APPROVERS.start:
            return
        if approval is None:
            raise Refused("Quorum Failed" if key_reference else NEEDS_APPROVAL)
        if not approval.kind.has_approvals:
            raise Refused("No token signatures provided")
        digests = [encoding.encode(digest).decode() for digest in approval.digests]
        token = next((token for token in self.tokens if [token.digest] == digests), None)
        wanted = (session.id, service, key_reference)
        if token is None or (token.session, token.service, token.key_reference) != wanted:
            raise Refused(NEEDS_APPROVAL)
        if seconds_left(token) <= 0:
            raise refusal("the quorum token has expired")
        signed = [entry for entry in approval.approvals if entry.signature]
        for entry in signed:
            name = entry.user, entry.role or ADMIN  # the files of 2023 have no roles, and are of admins
            if name not in approvers or not self.users[name].quorum:
                raise refusal(f"{shown(entry.username)} is not registered as an approver")
            check = _verifier(self.users[name].public_key, approval.digests, f"{entry.user}'s registered key")
            if problem := check.problem(0, entry.signature):
                raise refusal(f"approver {entry.username}: {problem}")
        people = len({entry.user for entry in signed})  # an admin may be there with the role and without it
        if people < need:
            raise Refused(f"Too few quorum approvals: currently {people} approvals, but {need} approvals required")
        self.tokens.remove(token)

    # Parts of these

    def _authenticated(self, session: Session, name: Name, password: str, *, mfa: bool) -> User:
        if not self.users:
            raise refusal("the cluster is not activated: cluster activate")
        if session.name in self.users:
            raise refusal("a user is logged in already: log out first")
        user = self.users.get(name)
        if user is None:
            raise refusal("wrong user name, role or password")
        if user.locked:
            raise refusal("the user is locked; an admin can unlock the user with user change-password")
        # FIPS settings refuse to hash a password that is too short, and no user has one.
        if len(password) not in PASSWORD_SIZES or not compare_digest(_hash(password, user.salt), user.hashed):
            user.failures += 1
            raise refusal("wrong user name, role or password")
        if user.mfa and not mfa:
            raise refusal("the user has a second factor: login --username U --role R mfa-token-sign --token F")
        if mfa and not user.mfa:
            raise refusal("the user has no second factor: login --username U --role R")
        return user

    def _new_digests(self) -> list[bytes]:
        """Return a new digest for each HSM."""
        return [os.urandom(encoding.DIGEST_SIZE) for _ in range(self.hsms)]

    @staticmethod
    def _enter(session: Session, user: User) -> None:
        user.failures = 0
        session.become(user.name)

    def _add(self, name: Name, password: str) -> None:
        user = User(*name)
        _set_password(user, password)
        self.users[name] = user

    def _admins(self) -> int:
        return sum(role == ADMIN for _, role in self.users)

    def _changeable(self, session: Session, name: Name) -> User:
        if self.member(session) != name:
            self.admin(session)
        return self.user(name)

    def _approve_for(self, session: Session, name: Name, approval: TokenFile | None) -> None:
        if name != session.name:  # a user needs nobody's approval to change their own password or second factor
            self.approve(session, "user", approval)


def seconds_left(token: QuorumToken) -> int:
    """Return the seconds for which a quorum token is still valid."""
    return ceil(token.created + TOKEN_LIFE_SECONDS - time.time())


def _verifier(public_key: str, digests: Sequence[bytes], name: str) -> Verifier:
    """Return what verifies signatures by a public key (PEM), which refusals call *name*."""
    return Verifier([parse_public_key(public_key, name)], digests, f"the signature is not by {name}")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _check_signatures(digests: Sequence[bytes], answer: TokenFile, public_key: str, name: str) -> None:
    """Refuse a file in which the key has not signed every digest of this attempt."""
    signed = {slot.digest: slot.text for slot in answer.slots()}
    missing = sum(digest not in signed for digest in digests)
    if missing:
        raise refusal(f"the file lacks {missing} of the {encoding.count(len(digests), 'digest')} of this attempt")
    check = _verifier(public_key, digests, name)
    for index, digest in enumerate(digests):
        if problem := check.problem(index, signed[digest]):
            raise refusal(f"token {index + 1}: {problem}")


def _approval_data(service: str, username: str, hsms: Iterable[int], key: int = 0) -> tuple[bytes, bytes]:
    number, seconds = _NUMBERS[service], int(time.time())
    data = b"".join(
        approval_data.record(number, hsm + 1, username, seconds, os.urandom(_NONCE_SIZE), key_handle=key)
        for hsm in hsms
    )
    return data, sha256(data).digest()


def _check_password(password: str) -> None:
    """Refuse a text that cannot be a password (AWS CloudHSM User Guide, user create)."""
    if len(password) not in PASSWORD_SIZES:
        raise refusal(f"a password has {PASSWORD_SIZES.start} to {PASSWORD_SIZES.stop - 1} characters")
    if ":" in password:
        raise refusal("a password has no colon")


def _set_password(user: User, password: str) -> None:
    user.salt = os.urandom(_NONCE_SIZE).hex()
    user.hashed = _hash(password, user.salt)
    user.failures = 0


def _hash(password: str, salt: str) -> str:
    """Return a hash of a password by PBKDF2 (RFC 8018), which works under FIPS settings too."""
    secret, salted = password.encode(errors="surrogateescape"), bytes.fromhex(salt)
    try:
        return pbkdf2_hmac("sha256", secret, salted, ITERATIONS).hex()
    except ValueError:  # such settings without a FIPS provider
        raise ToktoolsError("OpenSSL refuses PBKDF2 with SHA-256: see the file that OPENSSL_CONF names") from None

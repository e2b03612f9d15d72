"""A cluster in memory that keeps the rules of an HSM: users, second factors, quorum. It reads and writes nothing.

The rules are those of the AWS CloudHSM User Guide ("HSM users", "MFA for CloudHSM CLI", "Quorum authentication",
"Quotas"). Where the guide is silent, the rule is the stand-in's own, and so are its words.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from toktools.rehearsal import software
from toktools.rehearsal.answers import ACTIVATED, INCONSISTENT, MARK, USER_EXISTS, Refused, own
from toktools.rehearsal.keyring import Key, Keyring
from toktools.rehearsal.members import (
    ADMIN,
    CRYPTO_USER,
    Name,
    Session,
    User,
    check_password,
    taken,
    unsigned,
)
from toktools.rehearsal.mtls import LEVELS, TrustAnchors
from toktools.rehearsal.quorum import SERVICES, QuorumToken
from toktools.tokens.approvals import is_user_name

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import TokenFile

__all__ = ["ADMIN", "CRYPTO_USER", "MARK", "Cluster", "Name", "QuorumToken", "Refused", "Session", "User"]

MAX_USERS = 1024


class Cluster(Keyring, TrustAnchors):
    """Users, quorum values, quorum tokens, keys and trust anchors; what is against a rule is Refused.

    Every method checks first and changes then, but for one thing: a wrong login is counted though it is refused.
    """

    def __init__(  # noqa: PLR0913 - what there is, and two sources to replace in tests
        self,
        hsms: int,
        users: dict[Name, User] | None = None,
        values: dict[str, int] | None = None,
        tokens: list[QuorumToken] | None = None,
        *,
        keys: list[Key] | None = None,
        anchors: dict[int, str] | None = None,
        enforcement: str = LEVELS[0],
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.hsms = hsms
        self.users = users or {}
        self.values = values or dict.fromkeys(SERVICES, 1)
        self.tokens = tokens or []
        self.keys = keys or []
        self.anchors = anchors or {}
        self.enforcement = enforcement
        self._clock = clock
        self._random = random

    # Users

    def activate(self, password: str) -> None:
        """Make the first admin, named admin."""
        if self.users:
            raise Refused(ACTIVATED)
        check_password(password)
        self._add(("admin", ADMIN), password, self._random(software.SECRET_SIZE))

    def create(self, session: Session, name: Name, password: str, approval: TokenFile | None = None) -> None:
        """Make a user, or finish one whom not every HSM knows. For admins."""
        self.admin(session)
        if not is_user_name(name[0]):
            raise own("a user name has 1 to 31 letters, digits and underscores")
        there = self.users.get(name)
        if there and not there.inconsistent:
            raise Refused(USER_EXISTS)
        if len(self.users) >= MAX_USERS:
            raise own(f"there are {MAX_USERS} users already")
        check_password(password)
        self.approve(session, "user", approval)
        if there:
            self._set_password(there, password, session.secret)
            there.inconsistent = ""
        else:
            self._add(name, password, session.secret)

    def delete(self, session: Session, name: Name, approval: TokenFile | None = None) -> None:
        """Remove a user, but not the one who is logged in. For admins."""
        self.admin(session)
        user = self._user(name)
        if name == session.name:
            raise own("a user who is logged in cannot be deleted")
        if name[1] == ADMIN and self._admins() <= max(self.values.values()):
            raise own("there would be fewer admins than a quorum needs")
        self.approve(session, "user", approval)
        del self.users[user.name]
        if name[1] == CRYPTO_USER:
            self.forget(name[0])
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
        check_password(password)
        self._approve_for(session, name, approval)
        self._set_password(user, password, session.secret)
        user.quorum = False
        user.mfa = user.mfa and not deregister_mfa
        if not user.mfa:
            user.public_key = ""

    def replicate(self, sessions: Sequence[Session], name: Name, source: str, destination: str) -> User:
        """Give the HSMs of a clone a user that some of them do not know. For admins of both clusters."""
        for session in sessions:
            self.admin(session)
        user = self._user(name)
        if user.inconsistent == source:
            raise Refused(INCONSISTENT)
        if user.inconsistent == destination:
            user.inconsistent = ""
        return user

    def disturb(self, username: str, cluster_id: str) -> None:
        """Let some HSMs of a cluster not know the users of a name: what a failed command may leave."""
        found = [user for user in self.users.values() if user.name[0] == username]
        if not found:
            raise own("there is no such user")
        for user in found:
            user.inconsistent = cluster_id

    # The second factor

    def begin_mfa_change(self, session: Session, name: Name, password: str) -> Sequence[bytes]:
        """Return the digests that the new key must sign, 32 bytes for each HSM."""
        user = self._changeable(session, name)
        check_password(password)
        return self._begin(session, user, password)

    def end_mfa_change(
        self,
        session: Session,
        answer: TokenFile,
        public_key: str,
        approval: TokenFile | None = None,
        *,
        change_quorum: bool,
    ) -> None:
        """Register a key (PEM) for MFA, the first or a new one, and set the password; this makes an approver too."""
        challenge = taken(session)
        user = self._changeable(session, challenge.name)
        fault = unsigned(challenge.digests, answer, "mfa", public_key)
        if fault:
            raise own(fault)
        if user.quorum and user.public_key != public_key and not change_quorum:
            raise own("the user's quorum key is a different one, but both must be one: --change-quorum changes it too")
        self._approve_for(session, user.name, approval)
        self._set_password(user, challenge.password, session.secret)
        user.public_key = public_key
        user.mfa = user.quorum = True

    def deregister_mfa(self, session: Session, name: Name, password: str, approval: TokenFile | None = None) -> None:
        """Remove the second factor, and the quorum registration with it, and set the password."""
        user = self._changeable(session, name)
        if not user.mfa:
            raise own("the user has no second factor")
        self.change_password(session, name, password, approval, deregister_mfa=True)

    def _changeable(self, session: Session, name: Name) -> User:
        if self.member(session) == name:
            self._refuse_locked(self.users[name])
        else:
            self.admin(session)
        return self._user(name)

    def _approve_for(self, session: Session, name: Name, approval: TokenFile | None) -> None:
        if name != session.name:  # nobody needs others for what is one's own
            self.approve(session, "user", approval)

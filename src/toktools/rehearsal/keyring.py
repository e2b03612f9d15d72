"""The keys of a cluster: who owns them, with whom they are shared, and how many must agree to their use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from toktools.rehearsal import software
from toktools.rehearsal.answers import INVALID_VALUE, QUORUM_FAILED, VERIFICATION_FAILED, Refused, own
from toktools.rehearsal.members import CRYPTO_USER, Session, User
from toktools.rehearsal.quorum import APPROVERS, KEY_SERVICES, Quorum, QuorumToken

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import TokenFile

_FIRST_REFERENCE = 0x100001
MAX_LABEL = 127
"""Characters of a label, since Client SDK 5.11."""
MIN_EXPONENT = 65537

_ATTRIBUTES = {
    "encrypt": (False, False, True),
    "decrypt": (False, False, True),
    "token": (True, True, False),
    "always-sensitive": (True, False, False),
    "derive": (False, False, True),
    "destroyable": (True, True, True),
    "extractable": (True, True, True),
    "local": (True, True, False),
    "modifiable": (True, True, True),
    "never-extractable": (False, False, False),
    "private": (True, True, True),
    "sensitive": (True, False, False),
    "sign": (False, False, True),
    "trusted": (False, False, False),
    "unwrap": (False, False, True),
    "verify": (False, False, True),
    "wrap": (False, False, True),
    "wrap-with-trusted": (False, False, True),
}
"""Those that are true or false, in AWS's order: the value for a private and for a public key, and whether
a user may choose it."""
CHOSEN = tuple(name for name, (_, _, chosen) in _ATTRIBUTES.items() if chosen)


@dataclass
class Key:
    """One half of a pair: what it may do, who has it, and the private key wrapped under the cluster's secret."""

    reference: int
    label: str
    owner: str
    """The name of a crypto user."""
    public_key: str
    """PEM."""
    wrapped: bytes = b""
    """The private key, PKCS#8 in DER, wrapped; empty for a public key."""
    true: frozenset[str] = frozenset()
    """The attributes that are true."""
    shared: tuple[str, ...] = ()
    """The names of the crypto users with whom it is shared."""
    manage: int = 0
    use: int = 0
    """How many of the owner and the shared users must approve; below 2, none."""
    session: str = ""
    """The session that it ends with, if it does."""

    @property
    def people(self) -> tuple[str, ...]:
        """The owner and the shared users."""
        return (self.owner, *self.shared)

    @property
    def name(self) -> str:
        """The reference as the CLI writes it."""
        return f"0x{self.reference:016x}"

    @property
    def attributes(self) -> dict[str, object]:
        """The attributes that AWS lists, in AWS's order."""
        modulus, exponent = software.numbers(self.public_key)
        size = (modulus.bit_length() + 7) // 8
        return {
            "key-type": "rsa",
            "label": self.label,
            "id": "",
            "check-value": f"0x{sha256(self.public_key.encode()).hexdigest()[:6]}",
            "class": "private-key" if self.wrapped else "public-key",
            **{name: name in self.true for name in _ATTRIBUTES},
            "key-length-bytes": len(self.wrapped) if self.wrapped else 2 * size,
            "public-exponent": f"0x{exponent:06x}",
            "modulus": f"0x{modulus:0{2 * size}x}",
            "modulus-size-bits": modulus.bit_length(),
        }


@dataclass(frozen=True)
class Pair:
    """A key pair that a user wants."""

    public_label: str
    private_label: str
    size: int
    exponent: int
    public_attributes: dict[str, bool]
    private_attributes: dict[str, bool]
    shared: Sequence[str] = ()
    manage: int = 0
    use: int = 0
    session: bool = False


class Keyring(Quorum):
    """A cluster's members and its keys. Filters are pairs: key-reference, or attr. and an attribute, and its value."""

    keys: list[Key]

    def generate_pair(self, session: Session, pair: Pair) -> tuple[Key, Key]:
        """Make a key pair, and return the public and the private key. For crypto users."""
        owner = self._crypto_user(session)
        for label in (pair.public_label, pair.private_label):
            if not 0 < len(label) <= MAX_LABEL or not label.isprintable():
                raise own(f"a label has 1 to {MAX_LABEL} printable characters")
        if pair.size not in software.MODULUS_SIZES:
            raise own(f"an RSA key has {', '.join(map(str, software.MODULUS_SIZES))} bits")
        if pair.exponent != MIN_EXPONENT:
            raise own(f"the public exponent is {MIN_EXPONENT}")
        shared = tuple(dict.fromkeys(name.lower() for name in pair.shared if name.lower() != owner))
        for name in shared:
            self._user((name, CRYPTO_USER))
        self._check_values(pair.manage, pair.use, 1 + len(shared))
        public_key, private_key = software.new_pair(pair.size, pair.exponent)
        first = max([_FIRST_REFERENCE, *(key.reference + 1 for key in self.keys)])
        ends = session.id if pair.session else ""
        public = Key(first, pair.public_label, owner, public_key, true=_true(1, pair.public_attributes, pair.session))
        private = Key(
            first + 1,
            pair.private_label,
            owner,
            public_key,
            software.wrap(session.secret, private_key),
            _true(0, pair.private_attributes, pair.session),
            shared,
            pair.manage,
            pair.use,
        )
        public.session = private.session = ends
        self.keys = [*self.keys, public, private]
        return public, private

    def matching(self, session: Session, filters: Sequence[tuple[str, str]]) -> list[Key]:
        """Return the keys that the logged-in user may see, and all filters fit; an admin sees all."""
        username, role = self.member(session)
        seen = (
            key
            for key in self.keys
            if not key.session or key.session == session.id
            if role != CRYPTO_USER or not key.wrapped or username in key.people
        )
        return [key for key in seen if all(_fits(key, name, value) for name, value in filters)]

    def share(
        self,
        session: Session,
        filters: Sequence[tuple[str, str]],
        name: tuple[str, str],
        approval: TokenFile | None = None,
    ) -> None:
        """Share a key with a crypto user. For its owner."""
        key, username = self._owned(session, filters), self._sharer(name)
        if username in key.people:
            raise own("the user has the key already")
        self.approve_key(session, "key-management", key, approval)
        key.shared = (*key.shared, username)

    def unshare(
        self,
        session: Session,
        filters: Sequence[tuple[str, str]],
        name: tuple[str, str],
        approval: TokenFile | None = None,
    ) -> None:
        """Take a key from a user with whom it is shared, but no more than its quorum values leave. For its owner."""
        key, username = self._owned(session, filters), self._sharer(name)
        if username not in key.shared:
            raise own("the key is not shared with the user")
        self._check_values(key.manage, key.use, len(key.people) - 1)
        self.approve_key(session, "key-management", key, approval)
        key.shared = tuple(other for other in key.shared if other != username)

    def delete_key(self, session: Session, filters: Sequence[tuple[str, str]]) -> None:
        """Delete one half of a pair. For its owner; AWS's page has no approval for it."""
        key = self._owned(session, filters)
        self.keys = [other for other in self.keys if other is not key]
        self.tokens = [token for token in self.tokens if token.key_reference != key.reference]

    def generate_for(
        self, session: Session, service: str, filters: Sequence[tuple[str, str]]
    ) -> tuple[Key, bytes, bytes]:
        """Return a key, and the approval data and the digest of a new quorum token for it. For its people."""
        self._crypto_user(session)
        key = self._one(session, filters)
        if _value(key, service) < APPROVERS.start:
            raise own(f"the quorum value of the key for {service} is {_value(key, service)}: nothing needs an approval")
        name = self.member(session)
        record = self._approval_data(KEY_SERVICES[service], name, range(self.hsms), key.reference)
        self._hand_out(QuorumToken(record[1], service, name, session.id, self._clock(), key.reference))
        return key, *record

    def sign(  # noqa: PLR0913 - as many as the command has
        self,
        session: Session,
        filters: Sequence[tuple[str, str]],
        hash_function: str,
        content: bytes,
        approval: TokenFile | None = None,
        *,
        is_digest: bool = False,
    ) -> tuple[Key, bytes]:
        """Sign with RSA-PKCS, and return the key and the signature. For the key's people."""
        self._crypto_user(session)
        key = self._one(session, filters)
        if not key.wrapped or "sign" not in key.true:
            raise own("the key cannot sign: that needs a private key with sign=true")
        try:
            hashed = software.digest(hash_function, content, is_digest=is_digest)
            self.approve_key(session, "key-usage", key, approval)
            return key, software.sign(software.unwrap(session.secret, key.wrapped), hash_function, hashed)
        except ValueError as error:
            raise own(str(error)) from None

    def verify(  # noqa: PLR0913 - as many as the command has
        self,
        session: Session,
        filters: Sequence[tuple[str, str]],
        hash_function: str,
        content: bytes,
        signature: bytes,
        *,
        is_digest: bool = False,
    ) -> None:
        """Verify a signature with a public key, or refuse. For crypto users."""
        self._crypto_user(session)
        key = self._one(session, filters)
        if key.wrapped or "verify" not in key.true:
            raise own("the key cannot verify: that needs a public key with verify=true")
        try:
            hashed = software.digest(hash_function, content, is_digest=is_digest)
        except ValueError as error:
            raise own(str(error)) from None
        if not software.is_signed(key.public_key, hash_function, hashed, signature):
            raise Refused(VERIFICATION_FAILED)

    def approve_key(self, session: Session, service: str, key: Key, approval: TokenFile | None) -> None:
        """Refuse what has not the approvals that a key needs; take the token that has them, since it is spent."""
        need = _value(key, service)
        if need < APPROVERS.start:
            return
        if approval is None:
            raise Refused(QUORUM_FAILED)

        def approver(username: str, role: str) -> User | None:
            return self.users.get((username, CRYPTO_USER)) if role == CRYPTO_USER and username in key.people else None

        self._spend(session, service, approval, need, approver, key_reference=key.reference)

    def logout(self, session: Session) -> None:
        """End a login, with the quorum tokens and the keys of the session."""
        super().logout(session)
        self.keys = [key for key in self.keys if key.session != session.id]

    def forget(self, username: str) -> None:
        """Delete the keys of a crypto user, and take others' keys from the user."""
        self.keys = [key for key in self.keys if key.owner != username]
        for key in self.keys:
            key.shared = tuple(other for other in key.shared if other != username)

    def _crypto_user(self, session: Session) -> str:
        username, role = self.member(session)
        if role != CRYPTO_USER:
            raise own("only a crypto user can do this")
        return username

    def _one(self, session: Session, filters: Sequence[tuple[str, str]]) -> Key:
        found = self.matching(session, filters)
        if len(found) != 1:
            raise own(f"{len(found) or 'no'} keys match, but exactly one is needed")
        return found[0]

    def _owned(self, session: Session, filters: Sequence[tuple[str, str]]) -> Key:
        username = self._crypto_user(session)
        key = self._one(session, filters)
        if key.owner != username:
            raise own("only the owner of a key can do this")
        return key

    def _sharer(self, name: tuple[str, str]) -> str:
        if name[1] != CRYPTO_USER:
            raise own("a key can be shared only with crypto users")
        return self._user(name).name[0]

    @staticmethod
    def _check_values(manage: int, use: int, people: int) -> None:
        values = {manage, use}
        if values == {0}:
            return
        if any(value not in APPROVERS for value in values) or max(values) > people:
            raise Refused(INVALID_VALUE)


def choices(words: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield what words such as sign=true choose. Raises ValueError for others."""
    for word in words:
        name, _, value = word.partition("=")
        if name not in CHOSEN or value not in {"true", "false"}:
            raise ValueError(f"an attribute is one of {', '.join(CHOSEN)}, with =true or =false")
        yield name, value == "true"


def _true(half: int, chosen: dict[str, bool], session: bool) -> frozenset[str]:  # noqa: FBT001 - one of Pair's
    values = {name: row[half] for name, row in _ATTRIBUTES.items()} | {"token": not session} | chosen
    return frozenset(name for name, value in values.items() if value)


def _value(key: Key, service: str) -> int:
    return key.use if service == "key-usage" else key.manage


def _fits(key: Key, name: str, value: str) -> bool:
    if name == "key-reference":
        try:
            return int(value, 0) == key.reference
        except ValueError:
            return False
    found = key.attributes.get(name.partition(".")[2])
    return found is not None and value == (str(found).lower() if isinstance(found, bool) else str(found))

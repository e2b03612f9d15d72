"""RSA keys of a cluster: their owners and shared users, who must approve their use, and signing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from toktools import encoding
from toktools.keys.files import pem
from toktools.rehearsal.cluster import (
    APPROVERS,
    CRYPTO_USER,
    INVALID_VALUE,
    KEY_SERVICES,
    Cluster,
    Name,
    Refused,
    Session,
    public_key_of,
    refusal,
)
from toktools.signatures import DIGEST_INFO

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from toktools.tokens.tokenfile import TokenFile

Filters = Sequence[tuple[str, str]]
"""Pairs of a name, key-reference or attr. and an attribute, and its value."""

_FIRST_REFERENCE = 0x100001
MAX_LABEL = 127
"""Characters of a label, since Client SDK 5.11."""
_SIZES = (2048, 3072, 4096)
_EXPONENT = 65537
HASHES: dict[str, tuple[hashes.HashAlgorithm, bytes]] = {
    "sha1": (hashes.SHA1(), bytes.fromhex("3021300906052b0e03021a05000414")),  # noqa: S303 - the CLI takes it
    "sha224": (hashes.SHA224(), bytes.fromhex("302d300d06096086480165030402040500041c")),
    "sha256": (hashes.SHA256(), DIGEST_INFO),
    "sha384": (hashes.SHA384(), bytes.fromhex("3041300d060960864801650304020205000430")),
    "sha512": (hashes.SHA512(), bytes.fromhex("3051300d060960864801650304020305000440")),
}
"""The CLI's hash functions: the algorithm, and what its digest follows in a DigestInfo (RFC 8017 section 9.2)."""

_TRUE_OR_FALSE = (
    *("encrypt", "decrypt", "token", "always-sensitive", "derive", "destroyable", "extractable", "local", "modifiable"),
    *("never-extractable", "private", "sensitive", "sign", "trusted", "unwrap", "verify", "wrap", "wrap-with-trusted"),
)
"""Attributes in AWS's order."""
_TRUE = {"token", "destroyable", "extractable", "local", "modifiable", "private"}
"""Those that are true unless the user chooses otherwise, of a private key also _TRUE_IF_PRIVATE."""
_TRUE_IF_PRIVATE = {"always-sensitive", "sensitive"}
_FIXED = {"token", "local", "never-extractable", "trusted", *_TRUE_IF_PRIVATE}
CHOSEN = [name for name in _TRUE_OR_FALSE if name not in _FIXED]
"""Those that a user may choose."""


@dataclass
class Key:
    """One half of a pair."""

    reference: int
    label: str
    owner: str
    """The name of a crypto user."""
    public_key: str
    """PEM."""
    private_key: str = ""
    """PKCS#8 in DER, in base64; empty for a public key."""
    true: list[str] = field(default_factory=list)
    """The attributes that are true."""
    shared: list[str] = field(default_factory=list)
    """The names of the crypto users with whom it is shared."""
    manage: int = 0
    use: int = 0
    """How many of the owner and the shared users must approve; below 2, none."""
    session: str = ""
    """The session that it ends with, if it does."""

    @property
    def people(self) -> list[str]:
        """The owner and the shared users."""
        return [self.owner, *self.shared]

    @property
    def name(self) -> str:
        """The reference as the CLI writes it."""
        return f"0x{self.reference:016x}"

    @property
    def attributes(self) -> dict[str, object]:
        """The attributes that AWS lists, in AWS's order."""
        numbers = public_key_of(self.public_key).public_numbers()
        bits = numbers.n.bit_length()
        return {
            "key-type": "rsa",
            "label": self.label,
            "id": "",
            "check-value": f"0x{hashlib.sha256(self.public_key.encode()).hexdigest()[:6]}",
            "class": "private-key" if self.private_key else "public-key",
            **{name: name in self.true for name in _TRUE_OR_FALSE},
            "key-length-bytes": len(encoding.decode(self.private_key.encode())) if self.private_key else bits // 4,
            "public-exponent": f"0x{numbers.e:06x}",
            "modulus": f"0x{numbers.n:0{bits // 4}x}",
            "modulus-size-bits": bits,
        }

    def fits(self, name: str, value: str) -> bool:
        """Return whether one filter fits."""
        if name == "key-reference":
            try:
                return int(value, 0) == self.reference
            except ValueError:
                return False
        found = self.attributes.get(name.partition(".")[2])
        return found is not None and value == (str(found).lower() if isinstance(found, bool) else str(found))


def generate_pair(cluster: Cluster, session: Session, wanted: Namespace) -> tuple[Key, Key]:
    """Generate a key pair from the command's options; return the public and the private key. For crypto users."""
    owner = _crypto_user(cluster, session)
    for label in (wanted.public_label, wanted.private_label):
        if not 0 < len(label) <= MAX_LABEL or not label.isprintable():
            raise refusal(f"a label has 1 to {MAX_LABEL} printable characters")
    if wanted.modulus_size_bits not in _SIZES:
        raise refusal(f"an RSA key has {', '.join(map(str, _SIZES))} bits")
    if wanted.public_exponent != _EXPONENT:
        raise refusal(f"the public exponent is {_EXPONENT}")
    shared = [name for name in dict.fromkeys(wanted.share_crypto_users) if name != owner]
    for name in shared:
        cluster.user((name, CRYPTO_USER))
    manage, use = wanted.manage_private_key_quorum_value, wanted.use_private_key_quorum_value
    _check_values(manage, use, 1 + len(shared))
    public_key, private_key = _new_pair(wanted.modulus_size_bits)
    reference = max([_FIRST_REFERENCE, *(key.reference + 1 for key in cluster.keys)])
    ends = session.id if wanted.session else ""
    true = _TRUE - {"token"} if ends else _TRUE
    public = Key(
        reference,
        wanted.public_label,
        owner,
        public_key,
        true=_chosen(true, wanted.public_attributes),
        session=ends,
    )
    private = Key(
        reference + 1,
        wanted.private_label,
        owner,
        public_key,
        private_key,
        true=_chosen(true | _TRUE_IF_PRIVATE, wanted.private_attributes),
        shared=shared,
        manage=manage,
        use=use,
        session=ends,
    )
    cluster.keys += [public, private]
    return public, private


def matching(cluster: Cluster, session: Session, filters: Filters) -> list[Key]:
    """Return the keys that the logged-in user may see, and that all filters fit; an admin sees all."""
    username, role = cluster.member(session)
    return [
        key
        for key in cluster.keys
        if not key.session or key.session == session.id
        if role != CRYPTO_USER or not key.private_key or username in key.people
        if all(key.fits(name, value) for name, value in filters)
    ]


def share(cluster: Cluster, session: Session, filters: Filters, name: Name, approval: TokenFile | None = None) -> None:
    """Share a key with a crypto user. For its owner."""
    key, username = _owned(cluster, session, filters), _sharer(cluster, name)
    if username in key.people:
        raise refusal("the user has the key already")
    _approve(cluster, session, "key-management", key, approval)
    key.shared.append(username)


def unshare(
    cluster: Cluster, session: Session, filters: Filters, name: Name, approval: TokenFile | None = None
) -> None:
    """Take a key from a user with whom it is shared, unless its quorum values need that user. For its owner."""
    key, username = _owned(cluster, session, filters), _sharer(cluster, name)
    if username not in key.shared:
        raise refusal("the key is not shared with the user")
    _check_values(key.manage, key.use, len(key.people) - 1)
    _approve(cluster, session, "key-management", key, approval)
    key.shared.remove(username)


def delete(cluster: Cluster, session: Session, filters: Filters) -> None:
    """Delete one half of a pair. For its owner; AWS's page has no approval for it."""
    key = _owned(cluster, session, filters)
    cluster.keys.remove(key)
    cluster.tokens = [token for token in cluster.tokens if token.key_reference != key.reference]


def generate_token(cluster: Cluster, session: Session, service: str, filters: Filters) -> tuple[Key, bytes, bytes]:
    """Return a key, and the approval data and the digest of a new quorum token for it. For its people."""
    _crypto_user(cluster, session)
    key = _one(cluster, session, filters)
    if _value(key, service) < APPROVERS.start:
        raise refusal(f"the quorum value of the key for {service} is {_value(key, service)}: nothing needs an approval")
    return (key, *cluster.issue(session, service, KEY_SERVICES[service], key.reference))


def sign(  # noqa: PLR0913, PLR0917 - as many as the command has
    cluster: Cluster,
    session: Session,
    filters: Filters,
    hash_function: str,
    digest: bytes,
    approval: TokenFile | None = None,
) -> tuple[Key, bytes]:
    """Sign a digest with RSA-PKCS (RFC 8017 section 8.2); return the key and the signature. For the key's people."""
    _crypto_user(cluster, session)
    key = _one(cluster, session, filters)
    if not key.private_key or "sign" not in key.true:
        raise refusal("the key cannot sign: that needs a private key with sign=true")
    _approve(cluster, session, "key-usage", key, approval)
    private_key = serialization.load_der_private_key(encoding.decode(key.private_key.encode()), None)
    assert isinstance(private_key, rsa.RSAPrivateKey)  # noqa: S101 - it was generated below
    try:
        return key, private_key.sign(digest, padding.PKCS1v15(), Prehashed(HASHES[hash_function][0]))
    except UnsupportedAlgorithm:
        raise refusal(f"this system does not sign with {hash_function}") from None


def _chosen(true: set[str], chosen: Sequence[tuple[str, bool]]) -> list[str]:
    values = {**dict.fromkeys(true, True), **dict(chosen)}
    return [name for name in _TRUE_OR_FALSE if values.get(name)]


def _new_pair(size: int) -> tuple[str, str]:
    key = rsa.generate_private_key(_EXPONENT, size)
    der = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem(key.public_key()), encoding.encode(der).decode()


def digest_in(hash_function: str, content: bytes) -> bytes:
    """Return the digest in a DigestInfo in DER."""
    algorithm, prefix = HASHES[hash_function]
    digest = content[len(prefix) :]
    if not content.startswith(prefix) or len(digest) != algorithm.digest_size:
        raise refusal(f"not the DigestInfo of a {hash_function} digest in DER")
    return digest


def _approve(cluster: Cluster, session: Session, service: str, key: Key, approval: TokenFile | None) -> None:
    """Refuse what lacks the approvals that a key needs; spend the token that has them."""
    people = [(username, CRYPTO_USER) for username in key.people]
    reference, missing = key.reference, "Quorum Failed"
    cluster.spend(session, service, approval, _value(key, service), people, key_reference=reference, missing=missing)


def _value(key: Key, service: str) -> int:
    return key.use if service == "key-usage" else key.manage


def _check_values(manage: int, use: int, people: int) -> None:
    values = {manage, use}
    if values != {0} and (any(value not in APPROVERS for value in values) or max(values) > people):
        raise Refused(INVALID_VALUE)


def _crypto_user(cluster: Cluster, session: Session) -> str:
    username, role = cluster.member(session)
    if role != CRYPTO_USER:
        raise refusal("only a crypto user can do this")
    return username


def _one(cluster: Cluster, session: Session, filters: Filters) -> Key:
    found = matching(cluster, session, filters)
    if len(found) != 1:
        raise refusal(f"{len(found) or 'no'} keys match, but exactly one is needed")
    return found[0]


def _owned(cluster: Cluster, session: Session, filters: Filters) -> Key:
    username = _crypto_user(cluster, session)
    key = _one(cluster, session, filters)
    if key.owner != username:
        raise refusal("only the owner of a key can do this")
    return key


def _sharer(cluster: Cluster, name: Name) -> str:
    if name[1] != CRYPTO_USER:
        raise refusal("a key can be shared only with crypto users")
    return cluster.user(name).username

"""RSA keys of a cluster: owners, shared users, approvals of their use, and signing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from toktools.rehearsal.cluster import APPROVERS, CRYPTO_USER, INVALID_VALUE, Cluster, Name, Refused, Session, refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from toktools.tokens.tokenfile import TokenFile

Filters = Sequence[tuple[str, str]]
"""Pairs of a name (key-reference, or attr. and an attribute) and its value."""

_FIRST_REFERENCE = 0x100001
SIZES = (2048, 3072, 4096)
EXPONENT = 65537
HASHES = {"sha224": hashes.SHA224(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
"""The hash functions of the CLI but SHA-1, which is gone from many systems."""


@dataclass
class Key:
    """One half of a pair."""

    reference: int
    owner: str
    """The name of a crypto user."""
    attributes: dict[str, object]
    """The attributes, as the CLI lists them."""
    private_key: str = ""
    """PKCS#8 in PEM; empty for a public key."""
    shared: list[str] = field(default_factory=list)
    """The names of the crypto users who share it."""
    manage: int = 0
    use: int = 0
    """The numbers of people, who may include the owner, who must approve; below 2, nobody must."""

    @property
    def people(self) -> list[str]:
        """The owner and the shared users."""
        return [self.owner, *self.shared]

    @property
    def name(self) -> str:
        """The reference as the CLI writes it."""
        return f"0x{self.reference:016x}"

    def fits(self, name: str, value: str) -> bool:
        """Return whether a filter matches."""
        if name == "key-reference":
            return value.lower() in {self.name, hex(self.reference)}
        found = self.attributes.get(name.partition(".")[2])
        return value == (str(found).lower() if isinstance(found, bool) else str(found))


def generate_pair(cluster: Cluster, session: Session, wanted: Namespace) -> tuple[Key, Key]:
    """Generate a key pair from the command's options; return the public and the private key. For crypto users."""
    owner = _crypto_user(cluster, session)
    shared = [name for name in dict.fromkeys(wanted.share_crypto_users) if name != owner]
    for name in shared:
        cluster.user((name, CRYPTO_USER))
    manage, use = wanted.manage_private_key_quorum_value, wanted.use_private_key_quorum_value
    _check_values(manage, use, 1 + len(shared))
    key = rsa.generate_private_key(EXPONENT, wanted.modulus_size_bits)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private_key = key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode()
    reference = max([_FIRST_REFERENCE, *(key.reference + 1 for key in cluster.keys)])
    public = Key(reference, owner, _attributes(key, "public", wanted.public_label, wanted.public_attributes))
    attributes = _attributes(key, "private", wanted.private_label, wanted.private_attributes)
    private = Key(reference + 1, owner, attributes, private_key, shared, manage, use)
    cluster.keys += [public, private]
    return public, private


def _attributes(key: rsa.RSAPrivateKey, half: str, label: str, chosen: Sequence[tuple[str, bool]]) -> dict[str, object]:
    """Return the attributes that were chosen, and those of every key that say which one it is."""
    return {
        **dict(chosen),
        "key-type": "rsa",
        "label": label,
        "class": f"{half}-key",
        "public-exponent": f"0x{EXPONENT:06x}",
        "modulus": f"0x{key.public_key().public_numbers().n:x}",
        "modulus-size-bits": key.key_size,
    }


def matching(cluster: Cluster, session: Session, filters: Filters) -> list[Key]:
    """Return the keys that the logged-in user may see, and that match all filters; an admin sees all."""
    username, role = cluster.member(session)
    return [
        key
        for key in cluster.keys
        if role != CRYPTO_USER or not key.private_key or username in key.people
        if all(key.fits(name, value) for name, value in filters)
    ]


def share(cluster: Cluster, session: Session, filters: Filters, name: Name, approval: TokenFile | None) -> None:
    """Share a key with a crypto user. For its owner."""
    key, username = _owned(cluster, session, filters), _sharer(cluster, name)
    if username in key.people:
        raise refusal("the user has the key already")
    _approve(cluster, session, "key-management", key, approval)
    key.shared.append(username)


def unshare(cluster: Cluster, session: Session, filters: Filters, name: Name, approval: TokenFile | None) -> None:
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
    """Return a key, and the approval data and digest of a new quorum token for it. For its owner and shared users."""
    _crypto_user(cluster, session)
    key = _one(cluster, session, filters)
    if _value(key, service) < APPROVERS.start:
        raise refusal(f"the quorum value of the key for {service} is {_value(key, service)}: nothing needs an approval")
    return (key, *cluster.issue(session, service, key.reference))


def sign(  # noqa: PLR0913, PLR0917 - as many as the command has
    cluster: Cluster,
    session: Session,
    filters: Filters,
    hash_function: str,
    content: bytes,
    approval: TokenFile | None,
) -> tuple[Key, bytes]:
    """Hash data and sign it with RSA-PKCS (RFC 8017 section 8.2). For the key's owner and shared users."""
    _crypto_user(cluster, session)
    key = _one(cluster, session, filters)
    if not key.private_key or not key.attributes.get("sign"):
        raise refusal("the key cannot sign: that needs a private key with sign=true")
    _approve(cluster, session, "key-usage", key, approval)
    private_key = serialization.load_pem_private_key(key.private_key.encode(), None)
    assert isinstance(private_key, rsa.RSAPrivateKey)  # noqa: S101 - it was generated above
    return key, private_key.sign(content, padding.PKCS1v15(), HASHES[hash_function])


def _approve(cluster: Cluster, session: Session, service: str, key: Key, approval: TokenFile | None) -> None:
    """Refuse an operation without the approvals that a key needs, or use up the token that has them."""
    people = [(username, CRYPTO_USER) for username in key.people]
    cluster.spend(session, service, approval, _value(key, service), people, key.reference)


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

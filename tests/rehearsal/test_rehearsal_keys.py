"""Keys of the stand-in's cluster: who may do what, and who must approve it."""

from __future__ import annotations

import hashlib
from argparse import Namespace
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from hashlib import sha256
from typing import Any

import pytest
from conftest import key_of
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from rehearsing import PASSWORD

from toktools.keys.files import pem
from toktools.rehearsal import cluster as rules
from toktools.rehearsal import keys
from toktools.rehearsal.cluster import ADMIN, CRYPTO_USER, MARK, Cluster, Refused, Session, public_key_of
from toktools.tokens import jsonfile, tokenfile
from toktools.tokens.approval_data import records as approval_records

CUS = ("cu1", "cu2", "cu3", "cu4")
FILTER = [("attr.label", "private")]
PUBLIC = [("attr.label", "public")]
QUORUM_FAILED = "Quorum Failed"
SPENT = "Quorum approval is required for this operation"
INVALID = "Invalid quorum value provided."
PAIR = {
    "public_label": "public",
    "private_label": "private",
    "session": False,
    "modulus_size_bits": 2048,
    "public_exponent": 65537,
    "public_attributes": [("verify", True)],
    "private_attributes": [("sign", True)],
    "share_crypto_users": [],
    "manage_private_key_quorum_value": 0,
    "use_private_key_quorum_value": 0,
}


new_pair = cache(keys._new_pair)  # noqa: SLF001 - generating a key takes long


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords cheaply, and generate one key pair for all."""
    monkeypatch.setattr(rules, "ITERATIONS", 1)
    monkeypatch.setattr(keys, "_new_pair", new_pair)


@pytest.fixture
def cluster() -> Cluster:
    """A cluster of two HSMs with an admin and four crypto users, of whom all but the last are approvers."""
    cluster = Cluster(2)
    cluster.activate(PASSWORD)
    admin = enter(cluster, "admin", ADMIN)
    for name in CUS:
        cluster.create(admin, (name, CRYPTO_USER), PASSWORD)
    for name in CUS[:3]:
        key = key_of(name).public_key
        assert key is not None
        user = cluster.users[name, CRYPTO_USER]
        user.public_key, user.quorum = pem(key), True
    return cluster


def enter(cluster: Cluster, name: str, role: str = CRYPTO_USER) -> Session:
    session = Session()
    cluster.login(session, (name, role), PASSWORD)
    return session


def generate(cluster: Cluster, creator: Session, *shared: str, **options: Any) -> keys.Key:
    """Make a key pair that is shared, and return the private key."""
    wanted = {**PAIR, "share_crypto_users": shared, **options}
    return keys.generate_pair(cluster, creator, Namespace(**wanted))[1]


def owned(cluster: Cluster, *shared: str, manage: int = 0, use: int = 0) -> tuple[Session, keys.Key]:
    """Log cu1 in, and make a key that is shared, with quorum values."""
    session = enter(cluster, "cu1")
    values = {"manage_private_key_quorum_value": manage, "use_private_key_quorum_value": use}
    return session, generate(cluster, session, *shared, **values)


def approved(
    cluster: Cluster, session: Session, service: str, *people: str, role: str = CRYPTO_USER
) -> tokenfile.TokenFile:
    """Return a new token for the private key with people's approvals."""
    key, approval_data, digest = keys.generate_token(cluster, session, service, FILTER)
    signatures = [
        {"username": name, "role": role, "signature": b64encode(key_of(name).sign(digest)).decode()} for name in people
    ]
    document = {
        "version": "2.0",
        "service": service,
        "key_reference": key.name,
        "approval_data": b64encode(approval_data).decode(),
        "token": b64encode(digest).decode(),
        "signatures": signatures,
    }
    return tokenfile.parse(jsonfile.dump_ascii(document))


@contextmanager
def refused(cluster: Cluster, text: str) -> Iterator[None]:
    """Assert that this is refused in these words, and changes nothing."""
    before = deepcopy((cluster.keys, cluster.tokens))
    with pytest.raises(Refused) as caught:
        yield
    assert str(caught.value) == text
    assert (cluster.keys, cluster.tokens) == before


def sign(cluster: Cluster, session: Session, approval: tokenfile.TokenFile | None = None) -> bytes:
    return keys.sign(cluster, session, FILTER, "sha256", sha256(b"abc").digest(), approval)[1]


# --- keys


@pytest.mark.parametrize("name", keys.HASHES)
def test_signatures(cluster: Cluster, name: str) -> None:
    """With each hash function, the owner and a shared user make the same signature, which the public key verifies."""
    _, key = owned(cluster, "cu2")
    digest = hashlib.new(name, b"abc").digest()
    (signature,) = {keys.sign(cluster, enter(cluster, who), FILTER, name, digest)[1] for who in ("cu1", "cu2")}
    public_key_of(key.public_key).verify(signature, b"abc", PKCS1v15(), keys.HASHES[name][0])
    assert keys.digest_in(name, keys.HASHES[name][1] + digest) == digest
    for wrong in (digest, keys.HASHES[name][1] + digest[:-1]):
        with refused(cluster, f"{MARK}not the DigestInfo of a {name} digest in DER"):
            keys.digest_in(name, wrong)


def test_keys_that_cannot_sign(cluster: Cluster) -> None:
    """Only a private key with sign=true signs."""
    session = enter(cluster, "cu1")
    generate(cluster, session, private_attributes=[])
    for filters in (FILTER, PUBLIC):
        with refused(cluster, f"{MARK}the key cannot sign: that needs a private key with sign=true"):
            keys.sign(cluster, session, filters, "sha256", bytes(32))


def test_whose_key_it_is(cluster: Cluster) -> None:
    """Only its people see a private key, everybody a public one, and the owner alone shares, unshares and deletes."""
    owner, key = owned(cluster, "cu2")
    shared, other, admin = enter(cluster, "cu2"), enter(cluster, "cu3"), enter(cluster, "admin", ADMIN)
    assert [len(keys.matching(cluster, session, [])) for session in (owner, shared, other, admin)] == [2, 2, 1, 2]
    alone = f"{MARK}only the owner of a key can do this"
    with refused(cluster, alone):
        keys.share(cluster, shared, FILTER, ("cu3", CRYPTO_USER))
    with refused(cluster, alone):
        keys.unshare(cluster, shared, FILTER, ("cu2", CRYPTO_USER))
    with refused(cluster, alone):
        keys.delete(cluster, shared, FILTER)
    with refused(cluster, f"{MARK}no keys match, but exactly one is needed"):
        sign(cluster, other)
    with refused(cluster, f"{MARK}only a crypto user can do this"):
        sign(cluster, admin)
    keys.share(cluster, owner, FILTER, ("cu3", CRYPTO_USER))
    assert key.shared == ["cu2", "cu3"]
    assert sign(cluster, other)
    keys.unshare(cluster, owner, FILTER, ("cu2", CRYPTO_USER))
    with refused(cluster, f"{MARK}no keys match, but exactly one is needed"):
        sign(cluster, shared)
    keys.delete(cluster, owner, FILTER)
    assert [found.label for found in cluster.keys] == ["public"]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ([("key-reference", "0x100002")], 1),
        ([("key-reference", "0x0000000000100002")], 1),
        ([("key-reference", "x")], 0),
        ([("attr.class", "private-key")], 1),
        ([("attr.sign", "true"), ("attr.label", "public")], 0),
        ([("attr.nonsense", "true")], 0),
        ([("attr.modulus-size-bits", "2048")], 2),
    ],
)
def test_filters(cluster: Cluster, filters: list[tuple[str, str]], count: int) -> None:
    """A filter is a reference, or an attribute and its value; all must fit."""
    session, _ = owned(cluster)
    assert len(keys.matching(cluster, session, filters)) == count


def test_keys_of_a_session_and_of_a_user_who_goes(cluster: Cluster) -> None:
    """A session key is its session's alone and ends with it; a deleted user's keys and shares go too."""
    session, key = owned(cluster, "cu2")
    generate(cluster, session, private_label="passing", session=True)
    assert [len(keys.matching(cluster, who, [])) for who in (session, enter(cluster, "cu1"))] == [4, 2]
    cluster.logout(session)
    assert len(cluster.keys) == 2
    admin = enter(cluster, "admin", ADMIN)
    cluster.delete(admin, ("cu2", CRYPTO_USER))
    assert key.shared == []
    cluster.delete(admin, ("cu1", CRYPTO_USER))
    assert cluster.keys == []


@pytest.mark.parametrize("label", ["", "x" * 128, "a\tb", "\udcff"])
def test_labels(cluster: Cluster, label: str) -> None:
    """A label has 1 to 127 printable characters, for either half."""
    session = enter(cluster, "cu1")
    for half in ("public_label", "private_label"):
        with refused(cluster, f"{MARK}a label has 1 to 127 printable characters"):
            generate(cluster, session, **{half: label})
    assert generate(cluster, session, private_label="\u00e9 " * 63).label == "\u00e9 " * 63


@pytest.mark.parametrize(("size", "exponent"), [(1024, 65537), (8192, 65537), (2048, 3)])
def test_sizes(cluster: Cluster, size: int, exponent: int) -> None:
    """A modulus has 2,048, 3,072 or 4,096 bits, and the exponent is 65537."""
    with pytest.raises(Refused, match=r"bits|exponent"):
        generate(cluster, enter(cluster, "cu1"), modulus_size_bits=size, public_exponent=exponent)


# --- their quorum


@pytest.mark.parametrize(
    ("manage", "use", "shared", "good"),
    [
        (0, 0, (), True),
        (2, 2, ("cu2",), True),
        (3, 2, ("cu2", "cu3"), True),
        (2, 2, (), False),
        (2, 3, ("cu2",), False),
        (2, 0, ("cu2",), False),
        (1, 1, ("cu2",), False),
        (9, 9, ("cu2", "cu3", "cu4"), False),
        (2, 2, ("cu1", "cu1"), False),
    ],
)
def test_quorum_values_of_a_key(cluster: Cluster, manage: int, use: int, shared: tuple[str, ...], good: bool) -> None:  # noqa: FBT001 - a parameter
    """Both values are 0, or both are 2 to 8, and not more than there are people to a key."""
    if good:
        _, key = owned(cluster, *shared, manage=manage, use=use)
        assert (key.manage, key.use) == (manage, use)
    else:
        with refused(cluster, INVALID):
            owned(cluster, *shared, manage=manage, use=use)


def test_who_approves(cluster: Cluster) -> None:
    """As many as the value says, of the owner and the shared users who have registered; nobody else counts."""
    session, _ = owned(cluster, "cu2", "cu4", manage=2, use=2)
    with refused(cluster, QUORUM_FAILED):
        sign(cluster, session)
    for people, said in (
        (("cu1",), "Too few quorum approvals: currently 1 approvals, but 2 approvals required"),
        ((), "Too few quorum approvals: currently 0 approvals, but 2 approvals required"),
        (("cu1", "cu3"), f"{MARK}cu3 is not registered as an approver"),
        (("cu1", "cu4"), f"{MARK}cu4 is not registered as an approver"),
    ):
        approval = approved(cluster, session, "key-usage", *people)
        with refused(cluster, said):
            sign(cluster, session, approval)
    as_admins = approved(cluster, session, "key-usage", "cu1", "cu2", role=ADMIN)
    with refused(cluster, f"{MARK}cu1 is not registered as an approver"):
        sign(cluster, session, as_admins)
    approval = approved(cluster, session, "key-usage", "cu1", "cu2")
    assert sign(cluster, session, approval)
    with refused(cluster, SPENT):
        sign(cluster, session, approval)


def test_a_token_is_for_one_key_service_and_session(cluster: Cluster) -> None:
    """A token for another service, key or session does not count; several may be active at once."""
    session, key = owned(cluster, "cu2", manage=2, use=2)
    management = approved(cluster, session, "key-management", "cu1", "cu2")
    usage, second = (approved(cluster, session, "key-usage", "cu1", "cu2") for _ in range(2))
    with refused(cluster, SPENT):
        sign(cluster, session, management)
    with refused(cluster, SPENT):
        keys.share(cluster, session, FILTER, ("cu3", CRYPTO_USER), usage)
    with refused(cluster, SPENT):
        sign(cluster, enter(cluster, "cu2"), usage)
    key.label = "another"
    owned(cluster, "cu2", manage=2, use=2)
    with refused(cluster, SPENT):
        sign(cluster, session, usage)
    other = [("attr.label", "another")]
    for approval in (second, usage):
        assert keys.sign(cluster, session, other, "sha256", bytes(32), approval)
    keys.share(cluster, session, other, ("cu3", CRYPTO_USER), management)
    assert cluster.tokens == []


def test_tokens_for_keys(cluster: Cluster) -> None:
    """The approval data names the key and the service, for each HSM; a key without values needs no token."""
    session, key = owned(cluster, "cu2", manage=2, use=2)
    _, approval_data, digest = keys.generate_token(cluster, session, "key-usage", FILTER)
    assert sha256(approval_data).digest() == digest
    records = approval_records(approval_data)
    assert [(one.service, one.key_handle, one.requester) for one in records] == [(5, key.reference, "cu1")] * 2
    with refused(cluster, f"{MARK}the quorum value of the key for key-usage is 0: nothing needs an approval"):
        keys.generate_token(cluster, session, "key-usage", PUBLIC)
    with refused(cluster, f"{MARK}only a crypto user can do this"):
        keys.generate_token(cluster, enter(cluster, "admin", ADMIN), "key-usage", FILTER)

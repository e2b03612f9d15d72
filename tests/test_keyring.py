"""Keys and trust anchors of the rehearsed cluster, through the library: who may do what, and who must approve it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import key_of
from rehearsing import PASSWORD, cheap_hash

from toktools.keys.files import pem
from toktools.rehearsal import members, software
from toktools.rehearsal.answers import MARK, Refused
from toktools.rehearsal.cluster import Cluster
from toktools.rehearsal.keyring import Key, Pair
from toktools.rehearsal.members import ADMIN, CRYPTO_USER, Session
from toktools.tokens import jsonfile, tokenfile
from toktools.tokens.approval_data import records as approval_records

CUS = ("cu1", "cu2", "cu3", "cu4")
FILTER = [("attr.label", "private")]
PUBLIC = [("attr.label", "public")]
QUORUM_FAILED = "Quorum Failed"
SPENT = "Quorum approval is required for this operation"
INVALID = "Invalid quorum value provided."
PAIR = Pair("public", "private", 2048, 65537, {"verify": True}, {"sign": True})


new_pair = software.new_pair


@cache
def pair() -> tuple[str, bytes]:
    return new_pair(2048, 65537)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords cheaply, and make one key pair for all."""
    monkeypatch.setattr(members, "_hash", cheap_hash)
    monkeypatch.setattr(software, "new_pair", lambda *_: pair())


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


def owned(cluster: Cluster, *shared: str, manage: int = 0, use: int = 0) -> tuple[Session, Key]:
    """Log cu1 in, and make a key that is shared, with quorum values."""
    session = enter(cluster, "cu1")
    return session, cluster.generate_pair(session, replace(PAIR, shared=shared, manage=manage, use=use))[1]


def approved(
    cluster: Cluster, session: Session, service: str, *people: str, role: str = CRYPTO_USER
) -> tokenfile.TokenFile:
    """Return a new token for the private key with people's approvals."""
    key, approval_data, digest = cluster.generate_for(session, service, FILTER)
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
    before = deepcopy((cluster.keys, cluster.tokens, cluster.anchors, cluster.enforcement))
    with pytest.raises(Refused) as caught:
        yield
    assert str(caught.value) == text
    assert (cluster.keys, cluster.tokens, cluster.anchors, cluster.enforcement) == before


def sign(cluster: Cluster, session: Session, approval: tokenfile.TokenFile | None = None) -> bytes:
    return cluster.sign(session, FILTER, "sha256", b"abc", approval)[1]


# --- keys


@pytest.mark.parametrize("name", software.HASHES)
def test_what_is_signed_verifies(cluster: Cluster, name: str) -> None:
    """Whichever the hash function, the owner and a shared user sign alike, and everybody verifies."""
    owner, _ = owned(cluster, "cu2")
    signatures = {cluster.sign(enter(cluster, who), FILTER, name, b"abc")[1] for who in ("cu1", "cu2")}
    (signature,) = signatures
    cluster.verify(enter(cluster, "cu4"), PUBLIC, name, b"abc", signature)
    for content, wrong in ((b"abd", signature), (b"abc", bytes(256)), (b"abc", b"")):
        with refused(cluster, "Signature verification failed"):
            cluster.verify(owner, PUBLIC, name, content, wrong)
    with refused(cluster, f"{MARK}not the DigestInfo of a {name} digest in DER"):
        cluster.sign(owner, FILTER, name, b"abc", is_digest=True)


def test_whose_key_it_is(cluster: Cluster) -> None:
    """Only its people see a private key, everybody a public one, and the owner alone shares, unshares and deletes."""
    owner, key = owned(cluster, "cu2")
    shared, other, admin = enter(cluster, "cu2"), enter(cluster, "cu3"), enter(cluster, "admin", ADMIN)
    assert [len(cluster.matching(session, [])) for session in (owner, shared, other, admin)] == [2, 2, 1, 2]
    alone = f"{MARK}only the owner of a key can do this"
    with refused(cluster, alone):
        cluster.share(shared, FILTER, ("cu3", CRYPTO_USER))
    with refused(cluster, alone):
        cluster.unshare(shared, FILTER, ("cu2", CRYPTO_USER))
    with refused(cluster, alone):
        cluster.delete_key(shared, FILTER)
    with refused(cluster, f"{MARK}no keys match, but exactly one is needed"):
        sign(cluster, other)
    with refused(cluster, f"{MARK}only a crypto user can do this"):
        sign(cluster, admin)
    cluster.share(owner, FILTER, ("cu3", CRYPTO_USER))
    assert key.shared == ("cu2", "cu3")
    assert sign(cluster, other)
    cluster.unshare(owner, FILTER, ("cu2", CRYPTO_USER))
    with refused(cluster, f"{MARK}no keys match, but exactly one is needed"):
        sign(cluster, shared)
    cluster.delete_key(owner, FILTER)
    assert [found.label for found in cluster.keys] == ["public"]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ([("key-reference", "0x100002")], 1),
        ([("key-reference", "0x0000000000100002")], 1),
        ([("key-reference", "1048578")], 1),
        ([("key-reference", "x")], 0),
        ([("attr.class", "private-key")], 1),
        ([("attr.key-type", "rsa")], 2),
        ([("attr.sign", "true")], 1),
        ([("attr.sign", "true"), ("attr.label", "public")], 0),
        ([("attr.label", "Public")], 0),
        ([("attr.nonsense", "true")], 0),
        ([("attr.modulus-size-bits", "2048")], 2),
    ],
)
def test_filters(cluster: Cluster, filters: list[tuple[str, str]], count: int) -> None:
    """A filter is a reference, or an attribute and its value; all must fit."""
    session, _ = owned(cluster)
    assert len(cluster.matching(session, filters)) == count


def test_keys_that_cannot_do_it(cluster: Cluster) -> None:
    """A key signs only with sign=true and verifies only with verify=true, and a half does not what the other does."""
    session = enter(cluster, "cu1")
    cluster.generate_pair(session, replace(PAIR, public_attributes={}, private_attributes={}))
    for filters in (FILTER, PUBLIC):
        with refused(cluster, f"{MARK}the key cannot sign: that needs a private key with sign=true"):
            cluster.sign(session, filters, "sha256", b"abc")
        with refused(cluster, f"{MARK}the key cannot verify: that needs a public key with verify=true"):
            cluster.verify(session, filters, "sha256", b"abc", b"s")


def test_keys_of_a_session_and_of_a_user_who_goes(cluster: Cluster) -> None:
    """A session key is its session's alone and ends with it; a deleted user's keys and shares go too."""
    session, key = owned(cluster, "cu2")
    cluster.generate_pair(session, replace(PAIR, private_label="passing", session=True))
    assert [len(cluster.matching(who, [])) for who in (session, enter(cluster, "cu1"))] == [4, 2]
    cluster.logout(session)
    assert len(cluster.keys) == 2
    admin = enter(cluster, "admin", ADMIN)
    cluster.delete(admin, ("cu2", CRYPTO_USER))
    assert key.shared == ()
    cluster.delete(admin, ("cu1", CRYPTO_USER))
    assert cluster.keys == []


def test_what_is_kept_of_a_private_key(cluster: Cluster) -> None:
    """What is kept opens with the secret that any user's password opens, also after a new password, and no other."""
    session, key = owned(cluster)
    _, der = pair()
    assert der[:32] not in key.wrapped
    assert software.unwrap(session.secret, key.wrapped) == der
    for wrong in (bytes(32), session.secret[::-1]):
        with pytest.raises(software.Damaged):
            software.unwrap(wrong, key.wrapped)
    before = sign(cluster, session)
    cluster.change_password(enter(cluster, "admin", ADMIN), ("cu1", CRYPTO_USER), "another-password")
    again = Session()
    cluster.login(again, ("cu1", CRYPTO_USER), "another-password")
    assert sign(cluster, again) == before
    assert len({user.wrapped for user in cluster.users.values()}) == len(cluster.users)
    cluster.logout(again)
    assert again.secret == b""


@pytest.mark.parametrize("label", ["", "x" * 128, "a\tb", "\udcff", "\x1b[31m"])
def test_labels(cluster: Cluster, label: str) -> None:
    """A label has 1 to 127 printable characters, for either half."""
    session = enter(cluster, "cu1")
    for wanted in (replace(PAIR, public_label=label), replace(PAIR, private_label=label)):
        with refused(cluster, f"{MARK}a label has 1 to 127 printable characters"):
            cluster.generate_pair(session, wanted)
    assert cluster.generate_pair(session, replace(PAIR, private_label="\u00e9 " * 63))[1].label == "\u00e9 " * 63


@pytest.mark.parametrize(("size", "exponent"), [(1024, 65537), (2047, 65537), (8192, 65537), (2048, 3), (2048, 65539)])
def test_sizes(cluster: Cluster, size: int, exponent: int) -> None:
    """A modulus has 2,048, 3,072 or 4,096 bits, and the exponent is 65537."""
    with pytest.raises(Refused, match=r"bits|exponent"):
        cluster.generate_pair(enter(cluster, "cu1"), replace(PAIR, size=size, exponent=exponent))


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
        (2, 2, ("cu1", "CU1"), False),
        (2, 2, ("CU2",), True),
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
        cluster.share(session, FILTER, ("cu3", CRYPTO_USER), usage)
    with refused(cluster, SPENT):
        sign(cluster, enter(cluster, "cu2"), usage)
    key.label = "another"
    cluster.generate_pair(session, replace(PAIR, shared=("cu2",), manage=2, use=2))
    with refused(cluster, SPENT):
        sign(cluster, session, usage)
    other = [("attr.label", "another")]
    for approval in (second, usage):
        assert cluster.sign(session, other, "sha256", b"abc", approval)
    cluster.share(session, other, ("cu3", CRYPTO_USER), management)
    assert cluster.tokens == []


def test_people_whom_a_value_counts_on(cluster: Cluster) -> None:
    """A key is not taken from a user whom its values count on, whatever is approved."""
    session, key = owned(cluster, "cu2", manage=2, use=2)
    approval = approved(cluster, session, "key-management", "cu1", "cu2")
    with refused(cluster, INVALID):
        cluster.unshare(session, FILTER, ("cu2", CRYPTO_USER), approval)
    cluster.share(session, FILTER, ("cu3", CRYPTO_USER), approval)
    assert key.shared == ("cu2", "cu3")


def test_tokens_for_keys(cluster: Cluster) -> None:
    """The approval data names the key and the service, for each HSM; a key without values needs no token."""
    session, key = owned(cluster, "cu2", manage=2, use=2)
    _, approval_data, digest = cluster.generate_for(session, "key-usage", FILTER)
    assert sha256(approval_data).digest() == digest
    records = approval_records(approval_data)
    assert [(one.service, one.key_handle, one.requester) for one in records] == [(5, key.reference, "cu1")] * 2
    with refused(cluster, f"{MARK}the quorum value of the key for key-usage is 0: nothing needs an approval"):
        cluster.generate_for(session, "key-usage", PUBLIC)
    with refused(cluster, f"{MARK}only a crypto user can do this"):
        cluster.generate_for(enter(cluster, "admin", ADMIN), "key-usage", FILTER)


# --- mutual TLS


def test_trust_anchors(cluster: Cluster, keys: Path) -> None:
    """Two fit, each once, for admins; enforcement is for admin alone, and keeps the last one."""
    session, text = enter(cluster, "admin", ADMIN), (keys / "cert.pem").read_text()
    with refused(cluster, f"{MARK}only an admin can do this"):
        cluster.register_anchor(enter(cluster, "cu1"), text)
    with refused(cluster, f"{MARK}there is no trust anchor: cluster mtls register-trust-anchor"):
        cluster.set_enforcement(session, "cluster")
    assert [cluster.register_anchor(session, more + text) for more in ("", "second\n")] == [1, 2]
    with refused(cluster, "Invalid Certificate: Trust anchor already exists."):
        cluster.register_anchor(session, text)
    with refused(cluster, f"{MARK}there are 2 trust anchors already"):
        cluster.register_anchor(session, "third\n" + text)
    for bad in ("", "no certificate", (keys / "spki.pem").read_text(), text * 8, text.replace("M", "!")):
        with pytest.raises(Refused, match="a trust anchor is a certificate in PEM"):
            cluster.register_anchor(session, bad)
    cluster.create(session, ("admin2", ADMIN), PASSWORD)
    with refused(cluster, f"{MARK}only the admin named admin can do this"):
        cluster.set_enforcement(enter(cluster, "admin2", ADMIN), "cluster")
    cluster.set_enforcement(session, "cluster")
    cluster.deregister_anchor(session, 1)
    with refused(cluster, f"{MARK}the cluster enforces mutual TLS, and this is its last trust anchor"):
        cluster.deregister_anchor(session, 2)
    with refused(cluster, f"{MARK}there is no such trust anchor"):
        cluster.deregister_anchor(session, 1)
    cluster.set_enforcement(session, "none")
    cluster.deregister_anchor(session, 2)
    assert cluster.anchors == {}

"""The rules of the rehearsed cluster, through the library: in memory, and with a clock that a test can set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from hashlib import sha256
from types import SimpleNamespace

import pytest
from conftest import key_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rehearsing import PASSWORD, signed

from toktools.encoding import encode
from toktools.keys.files import pem
from toktools.rehearsal import cluster as rules
from toktools.rehearsal.cluster import ADMIN, CRYPTO_USER, MARK, Cluster, Name, Refused, Session
from toktools.tokens import jsonfile, tokenfile
from toktools.tokens.approval_data import records as approval_records

FIRST, OFFICER1, OFFICER2 = (("admin", ADMIN), ("officer1", ADMIN), ("officer2", ADMIN))
ALICE, NEWCOMER = (("alice", CRYPTO_USER), ("bob", CRYPTO_USER))
NEW_PASSWORD = "another-password"

NOBODY = f"{MARK}nobody is logged in: login --username U --role R"
NO_ADMIN = f"{MARK}only an admin can do this"
WRONG = f"{MARK}wrong user name, role or password"
LOCKED = f"{MARK}the user is locked; an admin unlocks with user change-password"
NO_USER = f"{MARK}there is no such user"
NOTHING_UNDER_WAY = f"{MARK}no operation is waiting for a signature"
TWO_KEYS = f"{MARK}the user's quorum key is a different one, but both must be one: --change-quorum changes it too"
BAD_SIZE = f"{MARK}a password has 8 to 32 characters"


class Clock:
    """A clock that stands until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Hash passwords cheaply."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "ITERATIONS", 1)
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The cluster's clock."""
    clock = Clock()
    monkeypatch.setattr(rules, "time", SimpleNamespace(time=clock))
    return clock


@pytest.fixture
def cluster(clock: Clock) -> Cluster:
    """A cluster of two HSMs with three admins and a crypto user, none of whom has a key."""
    assert clock.now
    return populated()


def populated() -> Cluster:
    cluster = Cluster(2)
    cluster.activate(PASSWORD)
    session = enter(cluster, FIRST)
    for name in (OFFICER1, OFFICER2, ALICE):
        cluster.create(session, name, PASSWORD)
    cluster.logout(session)
    return cluster


@pytest.fixture
def board(cluster: Cluster) -> Cluster:
    """The same cluster, whose admins are approvers, and where two must approve what the services user and quorum do."""
    for name in (FIRST, OFFICER1, OFFICER2):
        register(cluster, name)
    session = enter(cluster, FIRST)
    cluster.set_value(session, "user", 2)
    cluster.set_value(session, "quorum", 2)
    cluster.logout(session)
    return cluster


# --- what people do


def public(owner: str) -> str:
    half = key_of(owner).public_key
    assert half is not None
    return pem(half)


def enter(cluster: Cluster, name: Name, password: str = PASSWORD) -> Session:
    """Log in without a second factor."""
    session = Session()
    cluster.login(session, name, password)
    return session


def enter_mfa(cluster: Cluster, name: Name, owner: str, password: str = PASSWORD) -> Session:
    """Log in with a second factor, and somebody's key."""
    session = Session()
    digests = cluster.begin_mfa_login(session, name, password)
    cluster.end_mfa_login(session, signed(list(digests), key_of(owner)))
    return session


def set_up_mfa(  # noqa: PLR0913 - as many as the command has
    cluster: Cluster,
    session: Session,
    name: Name,
    owner: str,
    approval: tokenfile.TokenFile | None = None,
    *,
    change_quorum: bool = False,
) -> None:
    """Set up, or rotate, a second factor with somebody's key."""
    digests = cluster.begin_mfa_change(session, name, PASSWORD)
    answer = signed(list(digests), key_of(owner))
    cluster.end_mfa_change(session, answer, public(owner), approval, change_quorum=change_quorum)


def with_mfa(cluster: Cluster, name: Name, owner: str = "officer1") -> Session:
    """Log in, and set up one's own second factor."""
    session = enter(cluster, name)
    set_up_mfa(cluster, session, name, owner)
    return session


def register(cluster: Cluster, name: Name, owner: str = "") -> None:
    """Register somebody as an approver, by default with the key of the same name, and log out."""
    session = enter(cluster, name)
    owner = owner or name[0]
    cluster.register(session, registration(cluster.begin_registration(session), owner), public(owner))
    cluster.logout(session)


def parsed(**members: object) -> tokenfile.TokenFile:
    return tokenfile.parse(jsonfile.dump_ascii({"version": "2.0", **members}))


def text(content: bytes) -> str:
    return encode(content).decode()


def signature(digest: bytes, owner: str) -> str:
    return text(key_of(owner).sign(digest))


def answer(*pairs: tuple[bytes, str]) -> tokenfile.TokenFile:
    """Return the file of an MFA login or set-up, made of digests and signatures."""
    return parsed(tokens=[{"unsigned": text(digest), "signed": signature} for digest, signature in pairs])


def registration(tokens: Sequence[tuple[bytes, bytes]], owner: str) -> tokenfile.TokenFile:
    """Return the file of a quorum registration, signed with somebody's key; with nobody's, unsigned."""
    entries = [
        {
            "approval_data": text(approval_data),
            "unsigned": text(digest),
            "signed": signature(digest, owner) if owner else "",
        }
        for approval_data, digest in tokens
    ]
    return parsed(tokens=entries)


def by(username: str, owner: str = "", **members: object) -> Callable[[bytes], dict[str, object]]:
    """Return what makes somebody's approval of a digest, by default with the key of the same name, as an admin."""
    return lambda digest: {
        "username": username,
        "role": ADMIN,
        "signature": signature(digest, owner or username),
        **members,
    }


def of_2023(username: str) -> Callable[[bytes], dict[str, object]]:
    """Return what makes an approval without a role."""
    return lambda digest: {"username": username, "signature": signature(digest, username)}


BOTH = (by("officer1"), by("officer2"))


def quorum_token(
    token: tuple[bytes, bytes], approvals: Sequence[Callable[[bytes], dict[str, object]]] = BOTH
) -> tokenfile.TokenFile:
    """Return a quorum token with approvals."""
    approval_data, digest = token
    return parsed(
        service="any",
        approval_data=text(approval_data),
        token=text(digest),
        signatures=[approve(digest) for approve in approvals],
    )


@contextmanager
def refused(cluster: Cluster, text: str, counted: Name | None = None) -> Iterator[None]:
    """Assert that this is refused in these words, and changes nothing but the count of somebody's wrong logins."""
    before = deepcopy((cluster.users, cluster.values, cluster.tokens))
    if counted:
        before[0][counted].failures += 1
    with pytest.raises(Refused) as caught:
        yield
    assert str(caught.value) == text
    assert (cluster.users, cluster.values, cluster.tokens) == before


# --- users


def test_activation() -> None:
    """A cluster has no user until it is activated, and then one, admin, who logs in; it is activated only once."""
    cluster = Cluster(3)
    with refused(cluster, f"{MARK}the cluster is not activated: cluster activate"):
        enter(cluster, FIRST)
    cluster.activate(PASSWORD)
    assert list(cluster.users) == [FIRST]
    assert cluster.values == {"user": 1, "quorum": 1, "cluster": 1}
    assert enter(cluster, FIRST).name == FIRST
    with refused(cluster, "Cluster has already been activated"):
        cluster.activate(NEW_PASSWORD)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("x" * 7, BAD_SIZE),
        ("x" * 33, BAD_SIZE),
        ("\u00e9" * 7, BAD_SIZE),
        ("pass:word", f"{MARK}a password has no colon"),
    ],
)
def test_wrong_passwords(cluster: Cluster, password: str, said: str) -> None:
    """A password of another size, or with a colon, is refused wherever one is set."""
    session = enter(cluster, FIRST)
    with refused(Cluster(3), said):
        Cluster(3).activate(password)
    with refused(cluster, said):
        cluster.create(session, NEWCOMER, password)
    for change in (cluster.change_password, cluster.begin_mfa_change):
        with refused(cluster, said):
            change(session, FIRST, password)


@pytest.mark.parametrize("username", ["", "a" * 32, "a b", "a-b", "a.b", "\u00e9", "a\n", "\u0661"])
def test_bad_user_names(cluster: Cluster, username: str) -> None:
    """A name that no CloudHSM user can have is refused."""
    with refused(cluster, f"{MARK}a user name has 1 to 31 letters, digits and underscores"):
        cluster.create(enter(cluster, FIRST), (username, ADMIN), PASSWORD)


def test_a_user_who_is_deleted(cluster: Cluster) -> None:
    """A deleted user cannot log in, one who is logged in elsewhere is logged out, and may log in as somebody else."""
    theirs, session = enter(cluster, OFFICER1), enter(cluster, FIRST)
    with refused(cluster, f"{MARK}a user who is logged in cannot be deleted"):
        cluster.delete(session, FIRST)
    cluster.delete(session, OFFICER1)
    assert OFFICER1 not in cluster.users
    with refused(cluster, NO_USER):
        cluster.delete(session, OFFICER1)
    with refused(cluster, NOBODY):
        cluster.create(theirs, NEWCOMER, PASSWORD)
    with refused(cluster, WRONG):
        cluster.login(theirs, OFFICER1, PASSWORD)
    cluster.login(theirs, OFFICER2, PASSWORD)
    assert theirs.name == OFFICER2


def delete_all(cluster: Cluster, session: Session, _approval: tokenfile.TokenFile | None) -> None:
    cluster.delete_tokens(session, everyone=True)


Operation = Callable[[Cluster, Session, "tokenfile.TokenFile | None"], object]
ON_USERS: dict[str, Operation] = {
    "create": lambda cluster, session, approval: cluster.create(session, NEWCOMER, PASSWORD, approval),
    "delete": lambda cluster, session, approval: cluster.delete(session, OFFICER2, approval),
    "change password": lambda cluster, session, approval: cluster.change_password(
        session, OFFICER2, NEW_PASSWORD, approval
    ),
    "change mfa": lambda cluster, session, approval: set_up_mfa(
        cluster, session, OFFICER2, "officer1", approval, change_quorum=True
    ),
}
SERVICE_OF = {**dict.fromkeys(ON_USERS, "user"), "set value": "quorum"}
NEED_APPROVAL: dict[str, Operation] = {
    **ON_USERS,
    "set value": lambda cluster, session, approval: cluster.set_value(session, "cluster", 3, approval),
}
FOR_ADMINS: dict[str, Operation] = {
    **NEED_APPROVAL,
    "generate": lambda cluster, session, _approval: cluster.generate(session, "user"),
    "delete tokens": delete_all,
}


@pytest.mark.parametrize("operation", FOR_ADMINS)
def test_what_is_for_admins(cluster: Cluster, operation: str) -> None:
    """What is for admins is refused to nobody and to a crypto user, for whomever it is."""
    with refused(cluster, NOBODY):
        FOR_ADMINS[operation](cluster, Session(), None)
    with refused(cluster, NO_ADMIN):
        FOR_ADMINS[operation](cluster, enter(cluster, ALICE), None)


# --- logging in with a password


def lock(cluster: Cluster, name: Name) -> None:
    for _ in range(6):
        with pytest.raises(Refused):
            cluster.begin_mfa_login(Session(), name, NEW_PASSWORD)
    assert cluster.users[name].locked


def test_an_admin_unlocks(cluster: Cluster) -> None:
    """An admin's change of the password unlocks, with the new password alone; a crypto user's is refused."""
    lock(cluster, OFFICER1)
    with refused(cluster, NO_ADMIN):
        cluster.change_password(enter(cluster, ALICE), OFFICER1, NEW_PASSWORD)
    cluster.change_password(enter(cluster, FIRST), OFFICER1, NEW_PASSWORD)
    with refused(cluster, WRONG, counted=OFFICER1):
        enter(cluster, OFFICER1)
    assert enter(cluster, OFFICER1, NEW_PASSWORD).name == OFFICER1


def test_one_login_at_a_time(cluster: Cluster) -> None:
    """Who is logged in logs out before another logs in, and no wrong password is counted; one logs out once."""
    session = enter(cluster, OFFICER1)
    for begin in (cluster.login, cluster.begin_mfa_login):
        with refused(cluster, f"{MARK}a user is logged in already: log out first"):
            begin(session, OFFICER2, NEW_PASSWORD)
    cluster.logout(session)
    with refused(cluster, NOBODY):
        cluster.logout(session)
    cluster.login(session, OFFICER2, PASSWORD)
    assert session.name == OFFICER2


# --- logging in with a second factor


def test_a_login_with_a_second_factor(cluster: Cluster) -> None:
    """The registered key logs in, in any order of the digests, and other entries in the file do no harm."""
    with_mfa(cluster, OFFICER1)
    assert enter_mfa(cluster, OFFICER1, "officer1").name == OFFICER1
    session = Session()
    digests = cluster.begin_mfa_login(session, OFFICER1, PASSWORD)
    assert session.name is None
    pairs = [(digest, signature(digest, "officer1")) for digest in reversed(digests)]
    cluster.end_mfa_login(session, answer((sha256(b"another").digest(), ""), *pairs))
    assert session.name == OFFICER1


def shown_pair(digest: bytes) -> tuple[bytes, bytes]:
    """Return approval data and its digest."""
    return digest, sha256(digest).digest()


# What comes back for two digests, and the fault that the cluster finds.
BAD_ANSWERS: dict[str, tuple[Callable[[bytes, bytes], tokenfile.TokenFile], str]] = {
    "unsigned": (lambda one, two: answer((one, ""), (two, "")), "token 1: unsigned"),
    "one missing": (
        lambda one, _: answer((one, signature(one, "officer1"))),
        "the file lacks 1 of the 2 digests of this attempt",
    ),
    "other digests": (
        lambda *_: signed([sha256(b"x").digest(), sha256(b"y").digest()], key_of("officer1")),
        "the file lacks 2 of the 2 digests of this attempt",
    ),
    "swapped pair": (
        lambda one, two: answer((one, signature(two, "officer1")), (two, signature(one, "officer1"))),
        "token 1: the signature of token 2, not of token 1",
    ),
    "one signature twice": (
        lambda one, two: answer((one, signature(one, "officer1")), (two, signature(one, "officer1"))),
        "token 2: the signature of token 1, not of token 2",
    ),
    "another's key for one HSM": (
        lambda one, two: answer((one, signature(one, "officer1")), (two, signature(two, "officer2"))),
        "token 2: not made by the given key",
    ),
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_a_wrong_second_factor(cluster: Cluster, case: str) -> None:
    """A wrong answer is refused in the stand-in's own words, which name the fault, counts, and ends the attempt."""
    with_mfa(cluster, OFFICER1)
    make, said = BAD_ANSWERS[case]
    session = Session()
    digests = cluster.begin_mfa_login(session, OFFICER1, PASSWORD)
    with refused(cluster, f"{MARK}{said}", counted=OFFICER1):
        cluster.end_mfa_login(session, make(*digests))
    assert session.name is None
    with refused(cluster, NOTHING_UNDER_WAY):
        cluster.end_mfa_login(session, signed(list(digests), key_of("officer1")))


def test_an_answer_is_good_once(cluster: Cluster) -> None:
    """A file that logged in logs in no more: neither in the same session, nor in another, nor for a new attempt."""
    with_mfa(cluster, OFFICER1)
    session = Session()
    file = signed(list(cluster.begin_mfa_login(session, OFFICER1, PASSWORD)), key_of("officer1"))
    cluster.end_mfa_login(session, file)
    cluster.logout(session)
    for shell in (session, Session()):
        with refused(cluster, NOTHING_UNDER_WAY):
            cluster.end_mfa_login(shell, file)
        cluster.begin_mfa_login(shell, OFFICER1, PASSWORD)
        with refused(cluster, f"{MARK}the file lacks 2 of the 2 digests of this attempt", counted=OFFICER1):
            cluster.end_mfa_login(shell, file)
        assert shell.name is None


def take_mfa(cluster: Cluster) -> None:
    cluster.deregister_mfa(enter(cluster, FIRST), OFFICER1, NEW_PASSWORD)


def delete_officer(cluster: Cluster) -> None:
    cluster.delete(enter(cluster, FIRST), OFFICER1)


def change_password(cluster: Cluster) -> None:
    cluster.change_password(enter(cluster, FIRST), OFFICER1, NEW_PASSWORD)


def lock_officer(cluster: Cluster) -> None:
    lock(cluster, OFFICER1)


@pytest.mark.parametrize("change", [take_mfa, delete_officer, change_password, lock_officer])
def test_what_an_admin_changes_while_the_file_is_signed(cluster: Cluster, change: Callable[[Cluster], None]) -> None:
    """Where password, second factor, user or lock are not the same when the signed file comes, the refusal says so."""
    with_mfa(cluster, OFFICER1)
    session = Session()
    digests = cluster.begin_mfa_login(session, OFFICER1, PASSWORD)
    change(cluster)
    with pytest.raises(Refused, match=r"changed meanwhile|no such user|is locked"):
        cluster.end_mfa_login(session, signed(list(digests), key_of("officer1")))
    assert session.name is None


# --- setting up, rotating and taking away


def test_set_up_by_the_user(cluster: Cluster) -> None:
    """A user, also a crypto user, sets up the own second factor; then it takes key and new password to log in."""
    session = enter(cluster, ALICE)
    digests = cluster.begin_mfa_change(session, ALICE, NEW_PASSWORD)
    file = signed(list(digests), key_of("officer1"))
    cluster.end_mfa_change(session, file, public("officer1"), change_quorum=False)
    user = cluster.users[ALICE]
    assert (user.mfa, user.quorum, user.public_key) == (True, True, public("officer1"))
    with refused(cluster, WRONG, counted=ALICE):
        cluster.begin_mfa_login(Session(), ALICE, PASSWORD)
    assert enter_mfa(cluster, ALICE, "officer1", NEW_PASSWORD).name == ALICE


def test_rotation(cluster: Cluster) -> None:
    """A new key is taken only with --change-quorum, since the quorum has the old one too; then the old one is none."""
    session = with_mfa(cluster, OFFICER1, "officer1")
    with refused(cluster, TWO_KEYS):
        set_up_mfa(cluster, session, OFFICER1, "officer2")
    set_up_mfa(cluster, session, OFFICER1, "officer2", change_quorum=True)
    user = cluster.users[OFFICER1]
    assert (user.mfa, user.quorum, user.public_key) == (True, True, public("officer2"))
    with refused(cluster, f"{MARK}token 1: not made by the given key", counted=OFFICER1):
        enter_mfa(cluster, OFFICER1, "officer1")
    assert enter_mfa(cluster, OFFICER1, "officer2").name == OFFICER1


@pytest.mark.parametrize("session_of", [OFFICER1, FIRST])
def test_taking_the_second_factor_away(cluster: Cluster, session_of: Name) -> None:
    """Whoever takes a second factor away takes the quorum registration and the key too, and sets the password."""
    with_mfa(cluster, OFFICER1)
    session = enter_mfa(cluster, OFFICER1, "officer1") if session_of == OFFICER1 else enter(cluster, FIRST)
    cluster.deregister_mfa(session, OFFICER1, NEW_PASSWORD)
    user = cluster.users[OFFICER1]
    assert (user.mfa, user.quorum, user.public_key) == (False, False, "")
    assert enter(cluster, OFFICER1, NEW_PASSWORD).name == OFFICER1
    with refused(cluster, f"{MARK}the user has no second factor"):
        cluster.deregister_mfa(session, OFFICER1, NEW_PASSWORD)


@pytest.mark.parametrize("mfa", [True, False])
def test_what_a_changed_password_takes(cluster: Cluster, *, mfa: bool) -> None:
    """A changed password takes the quorum registration and a key that nothing needs, and leaves the second factor."""
    if mfa:
        with_mfa(cluster, OFFICER1)
    else:
        register(cluster, OFFICER1)
    cluster.change_password(enter(cluster, FIRST), OFFICER1, NEW_PASSWORD)
    user = cluster.users[OFFICER1]
    assert (user.mfa, user.quorum, bool(user.public_key)) == (mfa, False, mfa)
    cluster.change_password(enter(cluster, FIRST), OFFICER1, PASSWORD, deregister_mfa=True)
    assert (user.mfa, user.public_key) == (False, "")
    assert enter(cluster, OFFICER1).name == OFFICER1


# --- registering as an approver


def test_registration_with_a_wrong_file(cluster: Cluster) -> None:
    """Another's signatures, another kind of file and other digests are refused; the right file is then still good."""
    session = enter(cluster, OFFICER1)
    tokens = cluster.begin_registration(session)
    wrong = {
        "token 1: not made by the given key": registration(tokens, "officer2"),
        "the file lacks 1 of the 2 digests of this attempt": registration(tokens[:1], "officer1"),
        "the file lacks 2 of the 2 digests of this attempt": registration(
            cluster.begin_registration(enter(cluster, OFFICER1)), "officer1"
        ),
    }
    for said, file in wrong.items():
        with refused(cluster, f"{MARK}{said}"):
            cluster.register(session, file, public("officer1"))
    cluster.register(session, registration(tokens, "officer1"), public("officer1"))
    assert cluster.users[OFFICER1].quorum


NO_REGISTRATION = f"{MARK}no registration is under way: quorum token-sign generate --service registration --token F"


def test_registration_is_for_the_one_who_asked(cluster: Cluster) -> None:
    """A registration ends with the login that asked for it, and the next user of the shell cannot use it."""
    session = enter(cluster, OFFICER1)
    file = registration(cluster.begin_registration(session), "officer1")
    cluster.delete(enter(cluster, FIRST), OFFICER1)
    cluster.login(session, ALICE, PASSWORD)
    with refused(cluster, NO_REGISTRATION):
        cluster.register(session, file, public("officer1"))


# --- quorum values


def test_quorum_values(cluster: Cluster) -> None:
    """Two to eight must approve, and not more than there are admins; crypto users do not count."""
    session = enter(cluster, FIRST)
    for value in (-1, 0, 1, 4, 9, 99):
        with refused(cluster, "Invalid quorum value provided."):
            cluster.set_value(session, "user", value)
    for value in (3, 2):
        cluster.set_value(session, "cluster", value)
        assert cluster.values == {"user": 1, "quorum": 1, "cluster": value}
    for number in range(6):
        cluster.create(session, (f"more{number}", ADMIN), PASSWORD)
    with refused(cluster, "Invalid quorum value provided."):
        cluster.set_value(session, "user", 9)
    cluster.set_value(session, "user", 8)
    assert cluster.values["user"] == 8


# --- quorum tokens


@pytest.mark.parametrize(("service", "number"), [("user", 3), ("quorum", 4), ("cluster", 6)])
def test_approval_data(board: Cluster, service: str, number: int) -> None:
    """A token's approval data has a record of 80 bytes for each HSM, with service and requester, and hashes to it."""
    board.values["cluster"] = 2
    approval_data, digest = board.generate(enter(board, OFFICER1), service)
    assert len(approval_data) == 2 * 80
    assert sha256(approval_data).digest() == digest
    records = approval_records(approval_data)
    assert [(record.service, record.hsm, record.key_handle, record.requester) for record in records] == [
        (number, 1, 0, "officer1"),
        (number, 2, 0, "officer1"),
    ]
    assert {record.time for record in records} == {"2023-11-14T22:13:20Z"}


def test_approval_data_of_a_registration(cluster: Cluster) -> None:
    """A registration has a digest of its own for each HSM, made of data that names the user."""
    tokens = cluster.begin_registration(enter(cluster, ALICE))
    assert [sha256(approval_data).digest() for approval_data, _ in tokens] == [digest for _, digest in tokens]
    records = [record for approval_data, _ in tokens for record in approval_records(approval_data)]
    assert [(record.service, record.hsm, record.requester) for record in records] == [(0, 1, "alice"), (0, 2, "alice")]


@pytest.mark.parametrize("operation", SERVICE_OF)
def test_what_needs_approval(board: Cluster, operation: str) -> None:
    """An operation is refused without approvals, with those for another service too, and done with them, but once."""
    session, service = enter(board, FIRST), SERVICE_OF[operation]
    do = NEED_APPROVAL[operation]
    with refused(board, "Quorum approval is required for this operation"):
        do(board, session, None)
    other = quorum_token(board.generate(session, "quorum" if service == "user" else "user"))
    with refused(board, "Quorum approval is required for this operation"):
        do(board, session, other)
    approval = quorum_token(board.generate(session, service))
    before = deepcopy((board.users, board.values))
    do(board, session, approval)
    assert (board.users, board.values) != before
    assert [token.service for token in board.live_tokens()] == ["quorum" if service == "user" else "user"]
    with pytest.raises(Refused, match=r"Quorum approval is required|User already exists|there is no such user"):
        do(board, session, approval)


def test_nobody_needs_approvals_for_oneself(board: Cluster) -> None:
    """One's own password and second factor need no approvals, though those of others would."""
    session = enter(board, OFFICER2)
    board.change_password(session, OFFICER2, NEW_PASSWORD)
    set_up_mfa(board, session, OFFICER2, "officer2")
    board.deregister_mfa(session, OFFICER2, NEW_PASSWORD)
    assert not board.users[OFFICER2].public_key


TOO_FEW = "Too few quorum approvals: currently {} approvals, but 2 approvals required"
BAD_APPROVALS = {
    "one": ([by("officer1")], TOO_FEW.format(1)),
    "one, and an empty place": ([by("officer1"), by("officer2", signature="")], TOO_FEW.format(1)),
    "one, with a role and without": ([by("officer1"), of_2023("officer1")], TOO_FEW.format(1)),
    "another's signature": (
        [by("officer1"), by("officer2", owner="officer1")],
        f"{MARK}approver officer2: not made by the given key",
    ),
    "a wrong signature beside enough right ones": (
        [*BOTH, by("admin", owner="officer1")],
        f"{MARK}approver admin: not made by the given key",
    ),
    "a crypto user": (
        [by("officer1"), by("alice", owner="officer2", role=CRYPTO_USER)],
        f"{MARK}alice is not registered as an approver",
    ),
    "a crypto user as an admin": (
        [by("officer1"), by("alice", owner="officer2")],
        f"{MARK}alice is not registered as an approver",
    ),
    "an unknown role": (
        [by("officer1"), by("officer2", role="owner")],
        f"{MARK}officer2 is not registered as an approver",
    ),
    "nobody": (
        [by("officer1"), by("x\x1b[2J", owner="officer2")],
        rf"{MARK}x\x1b[2J is not registered as an approver",
    ),
}


@pytest.mark.parametrize("case", BAD_APPROVALS)
def test_wrong_approvals(board: Cluster, case: str) -> None:
    """Approvals that are too few or wrong are refused, and the token is still good for right ones."""
    register(board, ALICE, "officer2")
    session = enter(board, FIRST)
    token = board.generate(session, "user")
    approvals, said = BAD_APPROVALS[case]
    with refused(board, said):
        board.create(session, NEWCOMER, PASSWORD, quorum_token(token, approvals))
    board.create(session, NEWCOMER, PASSWORD, quorum_token(token))
    assert NEWCOMER in board.users


@pytest.mark.parametrize(
    "approvals",
    [
        [by("admin"), by("OFFICER1", owner="officer1")],
        [of_2023("officer2"), of_2023("officer1")],
        [by("admin"), by("officer1"), by("officer2")],
    ],
    ids=["oneself, and upper case", "without roles", "more than needed"],
)
def test_good_approvals(board: Cluster, approvals: list[Callable[[bytes], dict[str, object]]]) -> None:
    """Enough approvals are good, in whatever order and case, as of 2023, and with one's own among them."""
    session = enter(board, FIRST)
    board.create(session, NEWCOMER, PASSWORD, quorum_token(board.generate(session, "user"), approvals))
    assert NEWCOMER in board.users


def test_what_is_no_quorum_token(board: Cluster) -> None:
    """A file of another kind has no token signatures, and a token that was never handed out is no approval."""
    session = enter(board, FIRST)
    token = board.generate(session, "user")
    for file in (signed([token[1]], key_of("officer1")), registration([token], "officer1")):
        with refused(board, "No token signatures provided"):
            board.create(session, NEWCOMER, PASSWORD, file)
    with refused(board, "Quorum approval is required for this operation"):
        board.create(session, NEWCOMER, PASSWORD, quorum_token(shown_pair(b"made up")))


@pytest.mark.parametrize("name", [FIRST, OFFICER1])
def test_a_token_of_another_session(board: Cluster, name: Name) -> None:
    """A token is for the session that asked for it, and not for another of the same admin, nor another's."""
    session = enter(board, FIRST)
    approval = quorum_token(board.generate(session, "user"))
    with refused(board, "Quorum approval is required for this operation"):
        board.create(enter(board, name), NEWCOMER, PASSWORD, approval)
    board.create(session, NEWCOMER, PASSWORD, approval)
    assert NEWCOMER in board.users


def test_an_operation_that_is_refused_does_not_spend_the_token(board: Cluster) -> None:
    """What cannot be done is refused before the approvals are looked at, and they stay good."""
    session = enter(board, FIRST)
    approval = quorum_token(board.generate(session, "user"))
    with refused(board, "User already exists"):
        board.create(session, ALICE, PASSWORD, approval)
    with refused(board, BAD_SIZE):
        board.create(session, NEWCOMER, "short", approval)
    digests = board.begin_mfa_change(session, ALICE, PASSWORD)
    file = signed(list(digests), key_of("officer1"))
    with refused(board, f"{MARK}token 1: not made by the given key"):
        board.end_mfa_change(session, file, public("officer2"), approval, change_quorum=False)
    board.create(session, NEWCOMER, PASSWORD, approval)
    approval = quorum_token(board.generate(session, "quorum"))
    with refused(board, "Invalid quorum value provided."):
        board.set_value(session, "user", 9, approval)
    with refused(board, "Invalid quorum value provided."):
        board.set_value(session, "user", 3, approval)  # the value of quorum is 2
    board.set_value(session, "quorum", 3, approval)
    assert board.values["quorum"] == 3


def test_a_token_after_ten_minutes(board: Cluster, clock: Clock) -> None:
    """A token of ten minutes is refused, is listed no more, and is not in the way of a new one."""
    session = enter(board, FIRST)
    approval = quorum_token(board.generate(session, "user"))
    clock.now += 600
    assert board.live_tokens() == []
    with refused(board, f"{MARK}the quorum token has expired"):
        board.create(session, NEWCOMER, PASSWORD, approval)
    board.create(session, NEWCOMER, PASSWORD, quorum_token(board.generate(session, "user")))
    assert NEWCOMER in board.users


def test_one_active_token_for_each_admin_and_service(board: Cluster, clock: Clock) -> None:
    """A second token for user or quorum is refused while one is active, in any shell, until it is used or deleted."""
    session = enter(board, FIRST)
    board.generate(session, "user")
    board.generate(session, "quorum")
    board.generate(enter(board, OFFICER1), "user")
    active = f"{MARK}a quorum token for {{}} is active: use it first, or quorum token-sign delete"
    for service in ("user", "quorum"):
        with refused(board, active.format(service)):
            board.generate(enter(board, FIRST), service)
    board.delete_tokens(session, everyone=False)
    approval = quorum_token(board.generate(session, "user"))
    board.create(session, NEWCOMER, PASSWORD, approval)
    board.generate(session, "user")
    clock.now += 600
    board.generate(session, "user")


def test_a_locked_admin_who_is_logged_in(board: Cluster) -> None:
    """An admin who is locked meanwhile does not unlock herself."""
    session = enter(board, FIRST)
    board.users[FIRST].failures = 6
    with refused(board, f"{MARK}the user is locked; an admin unlocks with user change-password"):
        board.change_password(session, FIRST, NEW_PASSWORD)


def test_admins_that_a_quorum_needs(board: Cluster) -> None:
    """No admin is deleted whom a quorum value counts on."""
    board.users = {name: user for name, user in board.users.items() if name in {FIRST, OFFICER1}}
    with refused(board, f"{MARK}there would be fewer admins than a quorum needs"):
        board.delete(enter(board, FIRST), OFFICER1)


@pytest.mark.parametrize("everyone", [True, False])
def test_deleting_tokens(board: Cluster, *, everyone: bool) -> None:
    """An admin deletes the own tokens, of all sessions, or everyone's, and a deleted one is the same as none."""
    session, other = enter(board, FIRST), enter(board, OFFICER1)
    mine, theirs = (quorum_token(board.generate(shell, "user")) for shell in (session, other))
    board.generate(session, "quorum")
    board.delete_tokens(enter(board, FIRST), everyone=everyone)
    assert [token.username for token in board.tokens] == ([] if everyone else ["officer1"])
    with refused(board, "Quorum approval is required for this operation"):
        board.delete(session, ALICE, mine)
    if not everyone:
        board.delete(other, ALICE, theirs)
        assert ALICE not in board.users


def test_logout_ends_tokens(board: Cluster) -> None:
    """The tokens of a session end with it, and not those of another session; logging in again brings none back."""
    session, other = enter(board, FIRST), enter(board, FIRST)
    approval = quorum_token(board.generate(session, "user"))
    board.generate(other, "quorum")
    board.logout(session)
    assert [token.session for token in board.tokens] == [other.id]
    board.login(session, FIRST, PASSWORD)
    with refused(board, "Quorum approval is required for this operation"):
        board.create(session, NEWCOMER, PASSWORD, approval)


@given(st.lists(st.sampled_from(["right", "wrong password", "wrong second factor"]), max_size=25))
@settings(max_examples=60, deadline=None)
def test_locked_is_more_than_five_wrong_since_the_last_right_login(attempts: list[str]) -> None:
    """Whatever a user tries, it is locked exactly when more than five logins were wrong since the last right one."""
    cluster = populated()
    with_mfa(cluster, OFFICER1)
    wrong = 0
    for attempt in attempts:
        locked = wrong > 5
        password = NEW_PASSWORD if attempt == "wrong password" else PASSWORD
        owner = "officer2" if attempt == "wrong second factor" else "officer1"
        if attempt == "right" and not locked:
            assert enter_mfa(cluster, OFFICER1, owner, password).name == OFFICER1
            wrong = 0
        else:
            with pytest.raises(Refused) as caught:
                enter_mfa(cluster, OFFICER1, owner, password)
            assert (str(caught.value) == LOCKED) == locked
            wrong += not locked
        assert cluster.users[OFFICER1].locked == (wrong > 5)

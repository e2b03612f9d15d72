"""Quorums of the stand-in, of admins and of the users of a key, by the lines that people type."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA384
from sessions import (
    BAD_VALUE,
    NEEDS_APPROVAL,
    QUORUM_FAILED,
    WITH_PASSWORD,
    Cli,
    Rehearsal,
    approve,
    board,
    desk,
    named,
    own,
    sign,
    signatures,
    too_few,
    user,
)

from toktools.tokens.approval_data import records

__all__ = ["board", "desk"]

SPENT = NEEDS_APPROVAL
CREATE = f"user create --username bob --role admin {WITH_PASSWORD} "
SET_VALUE = "quorum token-sign set-quorum-value --service {} --value {} "
BOTH = ("officer1", "officer2")


class Pattern:
    """A value of which only the pattern is known."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern

    def __eq__(self, other: object) -> bool:
        return re.fullmatch(self.pattern, str(other)) is not None

    def __hash__(self) -> int:
        return hash(self.pattern)

    def __repr__(self) -> str:
        return f"/{self.pattern}/"


REFERENCE = Pattern("0x[0-9a-f]{16}")


def token(cli: Cli, service: str, file: str = "t.json", more: str = "") -> str:
    """Generate a quorum token, and return its file."""
    assert cli.do(f"quorum token-sign generate --service {service} --token {file}{more}") == {"filepath": file}
    return file


# Of admins


def test_values(desk: Rehearsal) -> None:
    """Two to eight must approve, and not more than there are admins, nor for user more than for quorum."""
    cli = desk.cli("admin")
    for value in (-1, 0, 1, 4, 9, 99):
        assert cli.type(SET_VALUE.format("user", value)) == BAD_VALUE
    said = own("the quorum value of user is 1: nothing needs an approval")
    assert cli.type("quorum token-sign generate --service user --token t.json") == said
    assert cli.do(SET_VALUE.format("cluster", 3)) == "Set Quorum Value successful"
    assert cli.do(SET_VALUE.format("user", 2)) == "Set Quorum Value successful"  # as AWS's first-time page has it
    assert cli.do(SET_VALUE.format("quorum", 2)) == "Set Quorum Value successful"
    assert cli.do("quorum token-sign list-quorum-values") == {"user": 2, "quorum": 2, "cluster": 3}
    desk.approve_all(*BOTH)
    assert cli.type(SET_VALUE.format("user", 3)) == BAD_VALUE
    assert cli.do(SET_VALUE.format("quorum", 3) + approve(token(cli, "quorum"), *BOTH)) == "Set Quorum Value successful"
    said = own("there would be fewer admins than a quorum needs")
    assert cli.type(f"user delete {named('officer2')}") == said


def test_a_token(board: Rehearsal) -> None:
    """The file of a token, its approval data of 80 bytes for each HSM, and how it is listed, without a login too."""
    board.approve_all(cluster=2)
    cli = board.cli("officer1")
    for service, title, number in (
        ("user", "user-management", 3),
        ("quorum", "quorum-management", 4),
        ("cluster", "cluster-management", 6),
    ):
        document = json.loads(Path(token(cli, service)).read_text())
        assert list(document) == ["version", "service", "approval_data", "token", "signatures"]
        assert (document["version"], document["service"], document["signatures"]) == ("2.0", title, [])
        data = b64decode(document["approval_data"])
        assert sha256(data).digest() == b64decode(document["token"])
        assert [(record.service, record.hsm, record.requester, record.time) for record in records(data)] == [
            (number, hsm, "officer1", "2023-11-14T22:13:20Z") for hsm in (1, 2)
        ]
    board.now += 60
    tokens = board.cli().do("quorum token-sign list")["tokens"]
    assert [entry["service"] for entry in tokens] == ["user", "quorum", "cluster"]
    assert list(tokens[0].items()) == [
        ("username", "officer1"),
        ("service", "user"),
        ("approvals-required", 2),
        ("number-of-approvals", 0),
        ("token-timeout-seconds", 540),
        ("cluster-coverage", "full"),
    ]


@pytest.mark.parametrize(
    ("service", "line"),
    [
        ("user", CREATE),
        ("user", f"user delete {named('officer2')} "),
        ("user", f"user change-password {named('officer2')} {WITH_PASSWORD} "),
        ("user", f"user change-mfa token-sign {named('officer2')} --token setup.json --change-password for-practice "),
        ("quorum", SET_VALUE.format("cluster", 3)),
    ],
)
def test_what_needs_approval(board: Rehearsal, service: str, line: str) -> None:
    """An operation needs approvals, and for its service; it spends the token, which is good once."""
    cli = board.cli("admin")
    typed = (lambda: sign("setup.json", "officer2"), "officer2.pub") if "change-mfa" in line else ()
    assert cli.type(line, *typed) == NEEDS_APPROVAL
    other = approve(token(cli, "quorum" if service == "user" else "user", "other.json"), *BOTH)
    assert cli.type(line + other, *typed) == NEEDS_APPROVAL
    approval = approve(token(cli, service), *BOTH)
    cli.do(line + approval, *typed)
    assert len(cli.do("quorum token-sign list")["tokens"]) == 1
    again = SET_VALUE.format("cluster", 2) if service == "quorum" else f"user delete {named('cu1')} "
    assert cli.type(again + approval) == SPENT


def test_nobody_needs_approvals_for_oneself(board: Rehearsal) -> None:
    """One's own password and second factor need no approvals, though those of others would."""
    cli = board.cli("officer2")
    cli.do(f"user change-password {named('officer2')} {WITH_PASSWORD}")
    change = f"user change-mfa token-sign {named('officer2')} --change-password for-practice "
    cli.do(f"{change} --token setup.json", lambda: sign("setup.json", "officer2"), "officer2.pub")
    cli.do(f"{change} --deregister")


NOT_AN_APPROVER = "{} is not registered as an approver"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([("officer1", "officer1", {}), ("officer2", "", {})], too_few(1)),
        ([("officer1", "officer1", {}), ("officer1", "officer1", {"role": None})], too_few(1)),
        (
            [("officer1", "officer1", {}), ("officer2", "officer1", {})],
            own("approver officer2: the signature is not by officer2's registered key"),
        ),
        ([("cu1", "cu1", {"role": "admin"})], own(NOT_AN_APPROVER.format("cu1"))),
        ([("cu1", "cu1", {})], own(NOT_AN_APPROVER.format("cu1"))),
        ([("officer1", "officer1", {"role": "owner"})], own(NOT_AN_APPROVER.format("officer1"))),
        ([("x\x1b[2J", "officer1", {})], own(NOT_AN_APPROVER.format(r"x\x1b[2J"))),
    ],
)
def test_wrong_approvals(board: Rehearsal, entries: list[tuple[str, str, dict[str, str | None]]], said: object) -> None:
    """Approvals that are too few or wrong are refused, and the token is still good for right ones."""
    board.approve_all("cu1")
    cli = board.cli("admin")
    file = token(cli, "user")
    document = json.loads(Path(file).read_text())
    for username, key, more in entries:
        entry = {**user(username), "signature": signatures(file, key)[0] if key else "", **more}
        document["signatures"].append({name: text for name, text in entry.items() if text is not None})
    Path("wrong.json").write_text(json.dumps(document))
    assert cli.type(f"{CREATE} --approval wrong.json") == said
    cli.do(CREATE + approve(file, *BOTH))


def test_good_approvals(board: Rehearsal) -> None:
    """Enough approvals are good, in whatever order and case, with one's own among them, and more than needed."""
    cli = board.cli("admin")
    assert cli.do(CREATE + approve(token(cli, "user"), "officer2", "OFFICER1", "admin")) == user("bob")


def test_approvals_of_2023(board: Rehearsal) -> None:
    """An approval without a role is an admin's."""
    cli = board.cli("admin")
    approval = approve(token(cli, "user"), *BOTH)
    text = Path("t.json").read_text()
    Path("t.json").write_text(text.replace('"role": "admin", ', ""))
    assert text != Path("t.json").read_text()
    assert cli.do(CREATE + approval) == user("bob")


def test_what_is_no_quorum_token(board: Rehearsal) -> None:
    """A file of another kind has no token signatures, and a token that was never handed out is no approval."""
    cli = board.cli("admin")
    cli.do("quorum token-sign generate --service registration --token r.json")
    assert cli.type(f"{CREATE} --approval r.json") == (1, "No token signatures provided")
    approval = approve(token(cli, "user"), *BOTH)
    cli.do("quorum token-sign delete --scope user")
    assert cli.type(CREATE + approval) == NEEDS_APPROVAL


@pytest.mark.parametrize("username", ["admin", "officer1"])
def test_a_token_is_for_its_session(board: Rehearsal, username: str) -> None:
    """Another session of the same admin, or another's, cannot use a token; and a logout ends it."""
    cli = board.cli("admin")
    approval = approve(token(cli, "user"), *BOTH)
    other = board.cli(username)
    assert other.type(CREATE + approval) == NEEDS_APPROVAL
    token(other, "quorum", "other.json")
    cli.do("logout")
    cli.do(f"login {named('admin')} {WITH_PASSWORD}")
    assert cli.type(CREATE + approval) == NEEDS_APPROVAL
    assert [entry["service"] for entry in cli.do("quorum token-sign list")["tokens"]] == ["quorum"]


def test_a_refusal_does_not_spend_the_token(board: Rehearsal) -> None:
    """What cannot be done is refused before the approvals are looked at, and they stay good."""
    cli = board.cli("admin")
    approval = approve(token(cli, "user"), *BOTH)
    assert cli.type(f"user create {named('officer1')} {WITH_PASSWORD} {approval}") == (1, "User already exists")
    assert cli.type(f"user create --username bob --role admin --password short {approval}")[0] == 1
    assert cli.type(f"{CREATE} --approval missing.json") == own("missing.json: no such file or directory")
    assert cli.do(CREATE + approval) == user("bob")


def test_one_active_token_for_each_admin_and_service(board: Rehearsal) -> None:
    """A second token is refused while one is active, in any session, for ten minutes; then the first is void."""
    cli = board.cli("admin")
    generate = "quorum token-sign generate --service user --token second.json"
    approval = approve(token(cli, "user"), *BOTH)
    token(cli, "quorum", "other.json")
    token(board.cli("officer1"), "user", "other.json")
    said = own("a quorum token for user is active: use it first, or delete it with quorum token-sign delete")
    assert board.cli("admin").type(generate) == said
    assert not Path("second.json").exists()
    board.now += 600
    assert cli.do("quorum token-sign list") == {"tokens": []}
    assert cli.type(CREATE + approval) == own("the quorum token has expired")
    cli.do(generate)


@pytest.mark.parametrize(("scope", "left"), [("user", ["officer1"]), ("all", [])])
def test_deleting_tokens(board: Rehearsal, scope: str, left: list[str]) -> None:
    """An admin deletes the own tokens, of all sessions, or everyone's."""
    for username in ("admin", "officer1"):
        token(board.cli(username), "user")
    cli = board.cli("admin")
    assert cli.do(f"quorum token-sign delete --scope {scope}") == "Deletion of quorum token(s) successful"
    assert [entry["username"] for entry in cli.do("quorum token-sign list")["tokens"]] == left


# Of the users of a key

PAIR = (
    "key generate-asymmetric-pair rsa --public-exponent 65537 --modulus-size-bits 2048 --public-label public "
    "--private-label private --public-attributes verify=true --private-attributes sign=true "
)
SIGN = "crypto sign rsa-pkcs --key-filter attr.label=private --hash-function sha256 --data YWJjMTIz "
SHARE = "key share --filter attr.label=private attr.class=private-key --username {} --role crypto-user "
UNSHARE = SHARE.replace("share", "unshare", 1)
THE_KEY = " --filter attr.label=private"
VALUES = "--share-crypto-users cu2 --manage-private-key-quorum-value {} --use-private-key-quorum-value {} "


def key(label: str, *shared: str) -> dict[str, object]:
    """A key with quorum values, as the page of key generate-asymmetric-pair rsa shows one."""
    value, flag = (2, "sign") if label == "private" else (0, "verify")
    return {
        "key-reference": Pattern("0x[0-9a-f]{16}"),
        "key-info": {
            "key-owners": [{"username": "cu1", "key-coverage": "full"}],
            "shared-users": [{"username": username, "key-coverage": "full"} for username in shared],
            "key-quorum-values": {"manage-key-quorum-value": value, "use-key-quorum-value": value},
            "cluster-coverage": "full",
        },
        "attributes": {
            flag: True,
            "key-type": "rsa",
            "label": label,
            "class": f"{label}-key",
            "public-exponent": "0x010001",
            "modulus": Pattern("0x[0-9a-f]{512}"),
            "modulus-size-bits": 2048,
        },
    }


@pytest.fixture
def owner(desk: Rehearsal) -> Cli:
    """A session of cu1, who has a key that cu2 shares; cu1 and cu2 must both approve."""
    desk.approve_all("cu1", "cu2")
    cli = desk.cli("cu1")
    made = cli.do(PAIR + VALUES.format(2, 2))
    assert made == {"public_key": key("public"), "private_key": key("private", "cu2")}
    return cli


def test_the_use_of_a_key(owner: Cli) -> None:
    """Both approve a signature, once; the token names the key, and is listed by it."""
    assert owner.type(SIGN) == QUORUM_FAILED
    document = json.loads(Path(token(owner, "key-usage", more=THE_KEY)).read_text())
    assert list(document) == ["version", "service", "key_reference", "approval_data", "token", "signatures"]
    found = records(b64decode(document["approval_data"]))
    assert [(record.service, record.key_handle, record.requester) for record in found] == [
        (5, int(document["key_reference"], 16), "cu1")
    ] * 2
    entry = {"username": "cu1", "service": "key-usage", "key-reference": document["key_reference"]}
    token(owner, "key-usage", "second.json", THE_KEY)
    assert owner.do("quorum token-sign list") == {"tokens": [{**entry, "minimum-token-count": 2}]}
    for people, said in ((("cu1",), too_few(1)), (("cu3",), own(NOT_AN_APPROVER.format("cu3")))):
        Path("wrong.json").write_bytes(Path("t.json").read_bytes())
        assert owner.type(SIGN + approve("wrong.json", *people)) == said
    as_admins = approve("second.json", "cu1", "cu2", role="admin")
    assert owner.type(SIGN + as_admins) == own(NOT_AN_APPROVER.format("cu1"))
    approval = approve("t.json", "cu1", "cu2")
    signed = {"key-reference": document["key_reference"], "signature": Pattern("[A-Za-z0-9+/]{342}==")}
    assert owner.do(SIGN + approval) == signed
    assert owner.type(SIGN + approval) == SPENT


def test_the_management_of_a_key(owner: Cli) -> None:
    """Sharing needs approvals for key-management, and unsharing leaves as many users as the values need."""
    assert owner.type(SHARE.format("cu3")) == QUORUM_FAILED
    usage = approve(token(owner, "key-usage", more=THE_KEY), "cu1", "cu2")
    assert owner.type(SHARE.format("cu3") + usage) == NEEDS_APPROVAL
    approval = approve(token(owner, "key-management", "m.json", THE_KEY), "cu1", "cu2")
    assert owner.type(SIGN + approval) == NEEDS_APPROVAL
    assert owner.type(SHARE.format("cu2") + approval) == own("the user has the key already")
    assert owner.do(SHARE.format("cu3") + approval) == {"message": "Key shared successfully"}
    listed = owner.do("key list --filter attr.label=private attr.class=private-key --verbose")
    assert listed == {"matched_keys": [key("private", "cu2", "cu3")], "total_key_count": 1, "returned_key_count": 1}
    approval = approve(token(owner, "key-management", "u.json", THE_KEY), "cu1", "cu2")
    assert owner.do(UNSHARE.format("cu3") + approval) == {"message": "Key unshared successfully"}
    assert owner.type(UNSHARE.format("cu3")) == own("the key is not shared with the user")
    assert owner.type(UNSHARE.format("cu2")) == BAD_VALUE
    said = own("a key can be shared only with crypto users")
    assert owner.type(SHARE.format("admin").replace("crypto-user", "admin")) == said


def test_a_token_is_for_its_key(owner: Cli) -> None:
    """Another key's token does not count, and a key without quorum values needs none."""
    approval = approve(token(owner, "key-usage", more=THE_KEY), "cu1", "cu2")
    owner.do(PAIR.replace("private ", "another ") + VALUES.format(2, 2))
    assert owner.type(SIGN.replace("private", "another") + approval) == NEEDS_APPROVAL
    said = own("the quorum value of the key for key-usage is 0: nothing needs an approval")
    filters = "--filter attr.label=public key-reference=0x0000000000100001"
    assert owner.type(f"quorum token-sign generate --service key-usage --token t.json {filters}") == said
    for service, more in (("user", THE_KEY), ("key-usage", "")):
        said = own("--filter names the key, and is only for the key services")
        assert owner.type(f"quorum token-sign generate --service {service} --token t.json{more}") == said


@pytest.mark.parametrize(
    ("manage", "use", "good"),
    [(0, 0, True), (2, 2, True), (2, 3, False), (2, 0, False), (1, 1, False), (-1, -1, False)],
)
def test_quorum_values_of_a_key(desk: Rehearsal, manage: int, use: int, *, good: bool) -> None:
    """Both values are 0, or both are 2 to 8, and not more than there are people to a key."""
    code, data = desk.cli("cu1").type(PAIR + VALUES.format(manage, use))
    assert (code, data) == BAD_VALUE if not good else code == 0


def test_whose_key_it_is(desk: Rehearsal) -> None:
    """Only its people see and use a private key, everybody a public one; the owner alone shares and deletes."""
    owner, shared, other, admin = (desk.cli(username) for username in ("cu1", "cu2", "cu3", "admin"))
    assert owner.type(PAIR + "--share-crypto-users nobody") == own("there is no such user")
    owner.do(f"{PAIR} --share-crypto-users cu1 cu2")
    counts = [cli.do("key list")["total_key_count"] for cli in (owner, shared, other, admin)]
    assert counts == [2, 2, 1, 2]
    assert owner.do("key list --filter attr.label=public")["matched_keys"] == [
        {"key-reference": "0x0000000000100001", "attributes": {"label": "public"}}
    ]
    for line in (SHARE.format("cu3"), "key delete --filter attr.label=private"):
        assert shared.type(line) == own("only the owner of a key can do this")
    assert shared.do(SIGN) == owner.do(SIGN)
    no_key = own("no keys match, but exactly one is needed")
    assert other.type(SIGN) == no_key
    assert admin.type(SIGN) == own("only a crypto user can do this")
    admin.do(f"user delete {named('cu2')}")
    assert (
        owner.do("key list --verbose --filter attr.label=private")["matched_keys"][0]["key-info"]["shared-users"] == []
    )
    assert owner.do("key delete --filter attr.label=private") == {"message": "Key deleted successfully"}
    assert owner.type(SIGN) == no_key
    admin.do(f"user delete {named('cu1')}")
    assert admin.do("key list")["matched_keys"] == []


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ("key-reference=0x100002", 1),
        ("key-reference=0x0000000000100002", 1),
        ("attr.sign=true attr.label=public", 0),
        ("attr.nonsense=true", 0),
        ("attr.modulus-size-bits=2048", 2),
    ],
)
def test_filters(desk: Rehearsal, filters: str, count: int) -> None:
    """A filter is a reference, or an attribute and its value; all must fit."""
    cli = desk.cli("cu1")
    cli.do(PAIR)
    assert cli.do(f"key list --filter {filters}")["total_key_count"] == count


def test_another_hash_function(desk: Rehearsal) -> None:
    """The public key verifies a signature with the hash function that was asked for."""
    cli = desk.cli("cu1")
    modulus = int(cli.do(PAIR)["public_key"]["attributes"]["modulus"], 16)
    signature = b64decode(cli.do(SIGN.replace("sha256", "sha384"))["signature"])
    RSAPublicNumbers(65537, modulus).public_key().verify(signature, b"abc123", PKCS1v15(), SHA384())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (SIGN.replace("private", "public"), own("the key cannot sign: that needs a private key with sign=true")),
        (SIGN.replace("YWJjMTIz", "x"), (1, Pattern("tok-rehearse: .*base64.*"))),
    ],
)
def test_what_keys_cannot_do(desk: Rehearsal, line: str, said: object) -> None:
    """The answer names what is wrong."""
    cli = desk.cli("cu1")
    cli.do(PAIR)
    assert cli.type(line) == said

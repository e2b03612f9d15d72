"""Users, logins, second factors and approvers of the stand-in, by the lines that people type."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rehearsing import PASSWORD
from sessions import WITH_PASSWORD, Cli, Rehearsal, desk, named, own, public_key, sign, user

__all__ = ["desk"]

OTHER = "another-password"
NEW_PASSWORD = f"--password {OTHER}"
NOBODY = own("nobody is logged in: login --username U --role R")
NO_ADMIN = own("only an admin can do this")
WRONG = own("wrong user name, role or password")
LOCKED = own("the user is locked; an admin can unlock the user with user change-password")
NOT_HIS_KEY = own("token 1: the signature is not by officer1's registered key")
CREATE = f"user create {{}} {WITH_PASSWORD}"
CHANGE = f"user change-mfa token-sign {{}} --token setup.json --change-password {PASSWORD}"
REGISTER = "user change-quorum token-sign register --public-key {}.pub --signed-token r.json"


def listed(username: str, **more: object) -> dict[str, object]:
    return {**user(username), "locked": "false", "mfa": [], "quorum": [], "cluster-coverage": "full", **more}


def set_up(cli: Cli, username: str, key: str, more: str = "") -> tuple[int, object]:
    """Set up a second factor, or replace its key."""
    return cli.type(CHANGE.format(named(username)) + more, lambda: sign("setup.json", key), f"{key}.pub")


def with_mfa(desk: Rehearsal) -> None:
    assert set_up(desk.cli("officer1"), "officer1", "officer1") == (0, user("officer1"))


def test_the_first_users(desk: Rehearsal) -> None:
    """Activation, users and the questions for passwords, as AWS's pages and public scripts have them."""
    Path("state").unlink()
    cli = desk.cli()
    appliance = listed("app_user", role="internal(APPLIANCE_USER)")
    assert cli.do("user list") == {"users": [listed("admin", role="unactivated-admin"), appliance]}
    login = f"login {named('admin')} {WITH_PASSWORD}"
    assert cli.type(login) == own("the cluster is not activated: cluster activate")
    assert cli.type("cluster activate", PASSWORD, OTHER) == own("the passwords are not the same")
    assert cli.questions == ["aws-cloudhsm > ", "Enter password:*", "Confirm password:*", "aws-cloudhsm > "]
    assert cli.do(f"cluster activate {WITH_PASSWORD}") == "Cluster activation successful"
    assert cli.type(f"cluster activate {NEW_PASSWORD}") == (1, "Cluster has already been activated")
    assert cli.do("quorum token-sign list-quorum-values") == {"user": 1, "quorum": 1, "cluster": 1}
    assert cli.do(login) == user("admin")
    for more in ("", " mfa-token-sign --token f.json"):
        assert cli.type(login + more) == own("a user is logged in already: log out first")
    assert cli.do(f"user create {named('officer1')}", PASSWORD, PASSWORD) == user("officer1")
    assert cli.type(f"user create {named('OFFICER1')} {NEW_PASSWORD}") == (1, "User already exists")
    assert list(cli.do("user list")["users"][1]) == list(appliance)
    assert cli.do("user list") == {"users": [listed("admin"), listed("officer1"), appliance]}
    assert cli.type(f"user delete {named('admin')}") == own("a user who is logged in cannot be deleted")
    assert cli.do(f"user delete {named('officer1')}") == user("officer1")
    assert cli.type(f"user delete {named('officer1')}") == own("there is no such user")
    assert cli.do("logout") == "Logout successful"
    assert cli.type("logout") == NOBODY


@pytest.mark.parametrize("password", ["x" * 7, "x" * 33, "pass:word"])
def test_wrong_passwords(desk: Rehearsal, password: str) -> None:
    """A password of another size, or with a colon, is refused wherever one is set."""
    said = own("a password has no colon" if ":" in password else "a password has 8 to 32 characters")
    cli = desk.cli("admin")
    for line in (
        f"user create --username bob --role admin --password {password}",
        f"user change-password {named('officer1')} --password {password}",
        f"user change-mfa token-sign {named('officer1')} --token f.json --change-password {password}",
    ):
        assert cli.type(line) == said
    Path("state").unlink()
    assert desk.cli().type(f"cluster activate --password {password}") == said


@pytest.mark.parametrize("username", ["''", "a" * 32, "a-b"])
def test_bad_user_names(desk: Rehearsal, username: str) -> None:
    """A name that no CloudHSM user can have is refused."""
    line = f"user create --username {username} --role admin {WITH_PASSWORD}"
    assert desk.cli("admin").type(line) == own("a user name has 1 to 31 letters, digits and underscores")


@pytest.mark.parametrize(
    "line",
    [
        CREATE.format("--username bob --role admin"),
        f"user delete {named('officer2')}",
        f"user change-password {named('officer2')} {NEW_PASSWORD}",
        CHANGE.format(named("officer2")),
        "quorum token-sign generate --service user --token t.json",
        "quorum token-sign set-quorum-value --service user --value 2",
        "quorum token-sign delete --scope all",
    ],
)
def test_what_is_for_admins(desk: Rehearsal, line: str) -> None:
    """What is for admins is refused to nobody and to a crypto user, for whomever it is."""
    before = Path("state").read_bytes()
    assert desk.cli().type(line) == NOBODY
    assert desk.cli("cu1").type(line) == NO_ADMIN
    assert Path("state").read_bytes() == before


def test_a_user_who_is_deleted(desk: Rehearsal) -> None:
    """A deleted user cannot log in; one who is logged in elsewhere is logged out, and may log in as somebody else."""
    theirs = desk.cli("officer1")
    desk.cli("admin").do(f"user delete {named('officer1')}")
    assert theirs.type(CREATE.format("--username bob --role admin")) == NOBODY
    assert theirs.type(f"login {named('officer1')} {WITH_PASSWORD}") == WRONG
    assert theirs.do(f"login {named('officer2')} {WITH_PASSWORD}") == user("officer2")


def test_a_lock(desk: Rehearsal) -> None:
    """More than five wrong logins since the last right one lock, by either factor, until an admin sets a password."""
    with_mfa(desk)
    wrong_password = f"login {named('officer1')} {NEW_PASSWORD} mfa-token-sign --token f.json"
    for tries in (5, 6):
        for _ in range(tries - 2):
            assert desk.cli().type(wrong_password) == WRONG
        for _ in range(2):
            assert desk.mfa_login("officer1", "officer2")[1] == NOT_HIS_KEY
        assert desk.mfa_login("officer1")[1] == (LOCKED if tries == 6 else (0, user("officer1")))
    admin = desk.cli("admin")
    assert (
        next(found for found in admin.do("user list")["users"] if found["username"] == "officer1")["locked"] == "true"
    )
    admin.do(f"user change-password {named('officer1')} {WITH_PASSWORD}")
    assert desk.mfa_login("officer1")[1] == (0, user("officer1"))


# The second factor


def test_set_up_and_login(desk: Rehearsal) -> None:
    """The questions and answers of a set-up and a login; the files are as AWS's pages show them."""
    cli = desk.cli("officer1")
    line = f"user change-mfa token-sign --token setup.json {named('officer1')}"
    typed = (OTHER, OTHER, lambda: sign("setup.json", "officer1"), "officer1.pub")
    assert cli.do(line, *typed) == user("officer1")
    assert cli.questions[1:-1] == [
        "Enter password:*",
        "Confirm password:*",
        "Enter signed token file path (press enter if same as the unsigned token file):",
        "Enter public key PEM file path:",
    ]
    enabled = [{"strategy": "token-sign", "status": "enabled"}]
    assert cli.do("user list")["users"][1] == listed("officer1", mfa=enabled, quorum=enabled)
    assert desk.cli().type(f"login {named('officer1')} {WITH_PASSWORD}") == WRONG
    said = own("the user has a second factor: login --username U --role R mfa-token-sign --token F")
    assert desk.cli().type(f"login {named('officer1')} {NEW_PASSWORD}") == said
    said = own("the user has no second factor: login --username U --role R")
    assert desk.mfa_login("officer2")[1] == said
    login = f"login {named('officer1')} mfa-token-sign --token login.json"
    assert desk.cli().do(login, OTHER, lambda: sign("login.json", "officer1")) == user("officer1")
    document = json.loads(Path("login.json").read_text())
    assert list(document) == ["version", "tokens"]
    assert [list(token) for token in document["tokens"]] == [["unsigned", "signed"]] * 2


def change(edit: Callable[[list[dict[str, str]]], object]) -> Callable[[], None]:
    """Return what signs the file of a login, and changes its tokens."""

    def work() -> None:
        sign("login.json", "officer1")
        document = json.loads(Path("login.json").read_text())
        edit(document["tokens"])
        Path("login.json").write_text(json.dumps(document))

    return work


@pytest.mark.parametrize(
    ("typed", "said", "failures"),
    [
        ("", "token 1: unsigned", 1),
        (change(lambda tokens: tokens.pop()), "the file lacks 1 of the 2 digests of this attempt", 1),
        ("used.json", "the file lacks 2 of the 2 digests of this attempt", 1),
        (lambda: sign("login.json", "officer2"), "token 1: the signature is not by officer1's registered key", 1),
        ("x\x1b[2J", r"x\x1b[2J: no such file or directory", 0),
        ("officer1.pub", "officer1.pub: a public key, not a token file", 0),
    ],
)
def test_a_wrong_second_factor(desk: Rehearsal, typed: str | Callable[[], object], said: str, failures: int) -> None:
    """A wrong file is refused in words that name the fault, a used one too; one that can be read is a wrong login."""
    with_mfa(desk)
    assert desk.mfa_login("officer1", file="used.json")[1] == (0, user("officer1"))
    line = f"login {named('officer1')} {WITH_PASSWORD} mfa-token-sign --token login.json"
    assert desk.cli().type(line, typed) == own(said)
    assert desk.user("officer1").failures == failures
    assert desk.cli().do(line, change(lambda tokens: tokens.reverse())) == user("officer1")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"user change-password {named('officer1')} {NEW_PASSWORD}", WRONG),
        (
            f"user change-mfa token-sign {named('officer1')} --deregister --change-password {PASSWORD}",
            own("the user has no second factor: login --username U --role R"),
        ),
    ],
)
def test_a_user_who_is_changed_while_the_file_is_signed(desk: Rehearsal, line: str, said: object) -> None:
    """The password is checked again when the signed file comes."""
    with_mfa(desk)

    def meanwhile() -> None:
        sign("login.json", "officer1")
        desk.cli("admin").do(line)

    login = f"login {named('officer1')} {WITH_PASSWORD} mfa-token-sign --token login.json"
    assert desk.cli().type(login, meanwhile) == said


def test_rotation(desk: Rehearsal) -> None:
    """A new key needs --change-quorum, since the quorum has the old one too, which is then worth nothing."""
    with_mfa(desk)
    cli, _ = desk.mfa_login("officer1")
    said = own("a user has one key for MFA and quorum, and this is not the quorum key; --change-quorum replaces it too")
    assert set_up(cli, "officer1", "officer2") == said
    assert set_up(cli, "officer1", "officer2", " --change-quorum") == (0, user("officer1"))
    assert desk.user("officer1").public_key == public_key("officer2")
    assert desk.mfa_login("officer1")[1] == NOT_HIS_KEY
    assert desk.mfa_login("officer1", "officer2")[1] == (0, user("officer1"))


@pytest.mark.parametrize("by", ["officer1", "admin"])
def test_removal(desk: Rehearsal, by: str) -> None:
    """Without a second factor the quorum registration and the key are gone too, and there is a new password."""
    with_mfa(desk)
    cli = desk.mfa_login("officer1")[0] if by == "officer1" else desk.cli("admin")
    line = f"user change-mfa token-sign {named('officer1')}"
    assert cli.type(line) == own("either --token or --deregister is needed")
    assert cli.do(f"{line} --deregister", OTHER, OTHER) == user("officer1")
    found = desk.user("officer1")
    assert (found.mfa, found.quorum, found.public_key) == (False, False, "")
    desk.cli("officer1", OTHER)
    assert cli.type(f"{line} --deregister", OTHER, OTHER) == own("the user has no second factor")


@pytest.mark.parametrize("mfa", [True, False])
def test_what_a_changed_password_takes(desk: Rehearsal, *, mfa: bool) -> None:
    """A changed password takes the quorum registration and a key that nothing needs, and leaves the second factor."""
    if mfa:
        with_mfa(desk)
    else:
        desk.approve_all("officer1")
    admin = desk.cli("admin")
    admin.do(f"user change-password {named('officer1')} {WITH_PASSWORD} --deregister-quorum")
    found = desk.user("officer1")
    assert (found.mfa, found.quorum, bool(found.public_key)) == (mfa, False, mfa)
    admin.do(f"user change-password {named('officer1')} {WITH_PASSWORD} --deregister-mfa")
    assert not desk.user("officer1").public_key


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("officer2.pub", "token 1: the signature is not by the key to be registered"),
        ("missing.pub", "missing.pub: no such file or directory"),
        ("setup.json", "setup.json: not a public key in PEM, as openssl rsa -pubout writes it"),
    ],
)
def test_a_wrong_public_key(desk: Rehearsal, path: str, said: str) -> None:
    """What is no public key, or another's, is answered in one line, and the user stays as before."""
    before = desk.user("officer1")
    line = CHANGE.format(named("officer1"))
    assert desk.cli("officer1").type(line, lambda: sign("setup.json", "officer1"), path) == own(said)
    assert desk.user("officer1") == before


# Approvers


@pytest.mark.parametrize("signatures", [False, True])
def test_registration(desk: Rehearsal, *, signatures: bool) -> None:
    """A user registers with a file as AWS shows it, or as CLI 5.18 writes it; a wrong one is refused and no harm."""
    cli = desk.cli("cu1", registration_signatures=signatures)
    generate = "quorum token-sign generate --service registration --token r.json"
    said = own("no registration is in progress: quorum token-sign generate --service registration --token F")
    assert cli.do(generate) == {"filepath": "r.json"}
    document = json.loads(Path("r.json").read_text())
    assert list(document) == ["version", "tokens", *(["signatures"] if signatures else [])]
    assert [list(token) for token in document["tokens"]] == [["approval_data", "unsigned", "signed"]] * 2
    if signatures:
        assert document["signatures"] == [{**user("cu1"), "signature": ""}]
    assert desk.cli("cu2").type(REGISTER.format("admin")) == said
    assert cli.type(REGISTER.format("admin")) == (1, "InvalidQuorumSignature")
    sign("r.json", "cu1")
    stranger = own("token 1: the signature is not by the key to be registered")
    assert cli.type(REGISTER.format("officer1")) == stranger
    assert cli.do(REGISTER.format("admin")) == user("cu1")
    assert cli.type(REGISTER.format("admin")) == said
    assert (desk.user("cu1").quorum, desk.user("cu1").public_key) == (True, public_key("admin"))


def test_a_registration_ends_with_its_login(desk: Rehearsal) -> None:
    """The next user of the shell cannot use it; and a user with MFA registers no other key."""
    cli = desk.cli("cu1")
    cli.do("quorum token-sign generate --service registration --token r.json")
    sign("r.json", "cu1")
    cli.do("logout")
    cli.do(f"login {named('cu2')} {WITH_PASSWORD}")
    assert cli.type(REGISTER.format("admin"))[1].startswith("tok-rehearse: no registration is in progress")
    with_mfa(desk)
    cli, _ = desk.mfa_login("officer1")
    cli.do("quorum token-sign generate --service registration --token r.json")
    sign("r.json", "officer2")
    assert cli.type(REGISTER.format("officer2")) == own(
        "a user has one key for MFA and quorum, and this is not the MFA key"
    )

"""Every command that has a token to sign, against AWS's pages: page, command, sample, same.

The samples are in our own values. A row says where pages contradict each other; the newest is the one that counts.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rehearsing import PASSWORD

from toktools.keys import open_signer
from toktools.rehearsal import cluster, shell
from toktools.rehearsal.commands import parser
from toktools.rehearsal.shell import EndOfInput
from toktools.rehearsal.state import State
from toktools.system import files
from toktools.system.prompt import Source
from toktools.tokens import tokenfile

if TYPE_CHECKING:
    from toktools.errors import ToktoolsError

PASSWORD_OPTION = f"--password {PASSWORD}"
QUORUM = "Quorum approval is required for this operation"


class Pattern:
    """A value of which only the form is known."""

    def __init__(self, form: str) -> None:
        self.form = form

    def __eq__(self, other: object) -> bool:
        return re.fullmatch(self.form, str(other)) is not None

    def __hash__(self) -> int:
        return hash(self.form)

    def __repr__(self) -> str:
        return f"/{self.form}/"


SIGNATURE = Pattern("[A-Za-z0-9+/]{342}==")
MODULUS = Pattern("0x[0-9a-f]{512}")
SECONDS = Pattern("[0-9]{3}")


@dataclass
class Desk:
    """A shell in this process: lines go in, answers come out. A line may be made when it is asked for."""

    directory: Path
    options: dict[str, Any] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    complaints: list[ToktoolsError] = field(default_factory=list)

    def run(self, monkeypatch: pytest.MonkeyPatch, lines: Sequence[str | Callable[[], str]]) -> list[tuple[int, Any]]:
        """Type lines at the prompt, and return what is answered: error_code and data, members in their order."""
        screen, pending = io.BytesIO(), iter(lines)

        class Typist:
            """Somebody at the console."""

            def ask(_self, question: str, *, hidden: bool = False) -> str:  # noqa: N805
                self.questions.append(question + ("*" if hidden else ""))
                line = next(pending, None)
                if line is None:
                    raise EndOfInput
                return line if isinstance(line, str) else line()

        with monkeypatch.context() as patch:
            patch.chdir(self.directory)
            patch.setattr(shell, "Terminal", Typist)
            patch.setattr(files, "write_stdout", screen.write)
            shell.Shell(State("state"), 2, parser(), self.complaints.append, **self.options).interact()
        text, decoder, found = screen.getvalue().decode(), json.JSONDecoder(), []
        for place in [match.start() for match in re.finditer(r"^\{", text, re.MULTILINE)]:
            answer = decoder.raw_decode(text, place)[0]
            assert list(answer) == ["error_code", "data"]
            found.append((answer["error_code"], answer["data"]))
        return found

    def signed(self, file: str, *people: tuple[str, str, str]) -> Callable[[], str]:
        """Return what signs a file, as one person or as several approvers (name, role, key), and gives Enter."""

        def sign() -> str:
            path = str(self.directory / file)
            document = json.loads(Path(path).read_text())
            for username, role, key in people:
                signer = open_signer(str(self.directory / f"{key}.key"), Source.ask("--passin"), lambda _: None)
                found = tokenfile.read(path)[1]
                signatures = [b64encode(signer.sign(digest)).decode() for digest in found.digests]
                if "token" in document:
                    entry = {"username": username, "role": role, "signature": signatures[0]}
                    document["signatures"].append(entry)
                else:
                    for token, signature in zip(document["tokens"], signatures):
                        token["signed"] = signature
            Path(path).write_text(json.dumps(document))
            return ""

        return sign


@pytest.fixture
def desk(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk with two people's keys."""
    monkeypatch.setattr(cluster, "ITERATIONS", 1)
    for name, source in (
        ("one.key", "pkcs8.pem"),
        ("one.pub", "spki.pem"),
        ("two.key", "other.pem"),
        ("two.pub", "other.pub"),
    ):
        shutil.copy(keys / source, tmp_path / name)
    return Desk(tmp_path)


@dataclass
class Row:
    """A command of a page, what is typed at its questions, and what the page shows."""

    page: str
    line: str
    data: object
    code: int = 0
    typed: tuple[str | Callable[[], str], ...] = ()
    note: str = ""
    first: bool = False
    """Whether what is typed comes before the line: a file is signed, and Enter pressed."""


def user(username: str, role: str) -> dict[str, str]:
    return {"username": username, "role": role}


def listed(username: str, role: str, **more: object) -> dict[str, object]:
    return {**user(username, role), "locked": "false", "mfa": [], "quorum": [], "cluster-coverage": "full", **more}


ENABLED = [{"strategy": "token-sign", "status": "enabled"}]
APPLIANCE = listed("app_user", "internal(APPLIANCE_USER)")


def login(username: str, role: str) -> Row:
    line = f"login --username {username} --role {role} {PASSWORD_OPTION}"
    return Row("cloudhsm_cli-login", line, user(username, role))


LOGOUT = Row("cloudhsm_cli-logout", "logout", "Logout successful")


def registered(desk: Desk, username: str, role: str, key: str) -> list[Row]:
    """The rows of a person who registers to approve (quorum-auth-chsm-cli-first-time)."""
    file = f"{username}.registration"
    return [
        login(username, role),
        Row(
            "quorum-auth-chsm-cli-first-time",
            f"quorum token-sign generate --service registration --token {file}",
            {"filepath": file},
            note="path on the how-to pages, filepath on the command's page, which is the newer",
        ),
        Row(
            "cloudhsm_cli-user-chqm-token-reg",
            f"user change-quorum token-sign register --public-key {key}.pub --signed-token {file}",
            user(username, role),
            typed=(desk.signed(file, (username, role, key)),),
            first=True,
        ),
        LOGOUT,
    ]


def play(desk: Desk, monkeypatch: pytest.MonkeyPatch, rows: Sequence[Row]) -> None:
    """Type the rows' lines, and compare the answers, members in their order."""
    # What is signed between two commands is an empty line at the prompt.
    lines = [line for row in rows for line in ((*row.typed, row.line) if row.first else (row.line, *row.typed))]
    answers = desk.run(monkeypatch, lines)
    assert desk.complaints == []
    for row, (code, data) in zip(rows, answers):
        assert (row.line, code, data) == (row.line, row.code, row.data), row.page
        assert order(data) == order(row.data), row.page
    assert len(answers) == len(rows)


def order(data: object) -> object:
    """Return the names of members, in their order, however deep."""
    if isinstance(data, dict):
        return [(name, order(value)) for name, value in data.items()]
    return [order(value) for value in data] if isinstance(data, list) else None


def test_users_and_second_factors(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activation, users, MFA set-up and login, as the pages show them; a script that runs twice is told so."""
    setup = "user change-mfa token-sign --token setup.json --username officer1 --role admin"
    one = desk.signed("setup.json", ("officer1", "admin", "one"))
    two = desk.signed("login.json", ("officer1", "admin", "one"))
    rows = [
        Row("cloudhsm_cli-user-list", "user list", {"users": [listed("admin", "unactivated-admin"), APPLIANCE]}),
        Row("cloudhsm_cli-cluster-activate", f"cluster activate {PASSWORD_OPTION}", "Cluster activation successful"),
        Row("public scripts", f"cluster activate {PASSWORD_OPTION}", "Cluster has already been activated", 1),
        login("admin", "admin"),
        Row(
            "cloudhsm_cli-user-create",
            "user create --username officer1 --role admin",
            user("officer1", "admin"),
            typed=(PASSWORD, PASSWORD),
        ),
        Row(
            "public scripts",
            f"user create --username officer1 --role admin {PASSWORD_OPTION}",
            "User already exists",
            1,
        ),
        Row(
            "cloudhsm_cli-user-change-mfa-token-sign",
            setup,
            user("officer1", "admin"),
            typed=(PASSWORD, PASSWORD, one, "one.pub"),
        ),
        Row(
            "cloudhsm_cli-user-list",
            "user list",
            {
                "users": [
                    listed("admin", "admin"),
                    listed("officer1", "admin", mfa=ENABLED, quorum=ENABLED),
                    APPLIANCE,
                ]
            },
        ),
        LOGOUT,
        Row(
            "login-mfa-cloudhsm-cli",
            "login --username officer1 --role admin mfa-token-sign --token login.json",
            user("officer1", "admin"),
            typed=(PASSWORD, two),
        ),
        Row(
            "cloudhsm_cli-user-change-password",
            f"user change-password --username admin --role admin {PASSWORD_OPTION}",
            user("admin", "admin"),
        ),
        Row(
            "deregister-mfa-cloudhsm-cli",
            f"user change-mfa token-sign --username officer1 --role admin --deregister --change-password {PASSWORD}",
            user("officer1", "admin"),
        ),
        Row("cloudhsm_cli-user-delete", "user delete --username admin --role admin", user("admin", "admin")),
    ]
    play(desk, monkeypatch, rows)
    file = json.loads((desk.directory / "login.json").read_text())
    assert (list(file), list(file["tokens"][0]), len(file["tokens"])) == (
        ["version", "tokens"],
        ["unsigned", "signed"],
        2,
    )
    assert "Enter public key PEM file path:" in desk.questions


def test_quorum_of_admins(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two admins approve a user and a quorum value."""
    admins = (("admin", "admin", "one"), ("admin2", "admin", "two"))

    def token(service: str, file: str) -> Row:
        line = f"quorum token-sign generate --service {service} --token {file}"
        return Row("cloudhsm_cli-qm-token-gen", line, {"filepath": file})

    def approved(file: str, row: Row) -> Row:
        return Row(row.page, f"{row.line} --approval {file}", row.data, typed=(desk.signed(file, *admins),), first=True)

    create = Row(
        "quorum-auth-chsm-cli-admin",
        f"user create --username user1 --role crypto-user {PASSWORD_OPTION}",
        user("user1", "crypto-user"),
    )
    set_value = "quorum token-sign set-quorum-value --service {} --value 2"
    rows = [
        Row("cloudhsm_cli-cluster-activate", f"cluster activate {PASSWORD_OPTION}", "Cluster activation successful"),
        login("admin", "admin"),
        Row(
            "cloudhsm_cli-user-create",
            f"user create --username admin2 --role admin {PASSWORD_OPTION}",
            user("admin2", "admin"),
        ),
        LOGOUT,
        *registered(desk, "admin", "admin", "one"),
        *registered(desk, "admin2", "admin", "two"),
        login("admin", "admin"),
        Row(
            "quorum-auth-chsm-cli-first-time",
            set_value.format("user"),
            "Set Quorum Value successful",
            note="two pages write Set quorum value; this page sets user while quorum is 1, which min-value forbids",
        ),
        Row("cloudhsm_cli-qm-token-set-qm", set_value.format("cluster"), "Set Quorum Value successful"),
        Row("quorum-auth-chsm-cli-min-value", set_value.format("quorum"), "Set Quorum Value successful"),
        Row(
            "cloudhsm_cli-qm-token-list-qm",
            "quorum token-sign list-quorum-values",
            {"user": 2, "quorum": 2, "cluster": 2},
        ),
        Row("quorum-auth-chsm-cli-admin", create.line, QUORUM, 1),
        token("user", "user.json"),
        Row(
            "cloudhsm_cli-qm-token-list",
            "quorum token-sign list",
            {
                "tokens": [
                    {
                        "username": "admin",
                        "service": "user",
                        "approvals-required": 2,
                        "number-of-approvals": 0,
                        "token-timeout-seconds": SECONDS,
                        "cluster-coverage": "full",
                    }
                ]
            },
            note="one page has plain numbers, another {value: n}",
        ),
        approved("user.json", create),
        Row(
            "quorum-auth-chsm-cli-admin",
            "user delete --username user1 --role crypto-user --approval user.json",
            QUORUM,
            1,
        ),
        token("quorum", "quorum.json"),
        Row(
            "cloudhsm_cli-qm-token-del",
            "quorum token-sign delete --scope all",
            "Deletion of quorum token(s) successful",
        ),
    ]
    play(desk, monkeypatch, rows)
    file = json.loads((desk.directory / "quorum.json").read_text())
    assert list(file) == ["version", "service", "approval_data", "token", "signatures"]


ATTRIBUTES = """
    key-type label id check-value class encrypt decrypt token always-sensitive derive destroyable
    extractable local modifiable never-extractable private sensitive sign trusted unwrap verify wrap
    wrap-with-trusted key-length-bytes public-exponent modulus modulus-size-bits
"""


def key(label: str, *shared: str) -> dict[str, object]:
    """A key of the walk-through, as the page of key generate-asymmetric-pair rsa shows one."""
    is_private = label == "private"
    true = {"token", "destroyable", "extractable", "local", "modifiable", "private"}
    true |= {"always-sensitive", "sensitive", "sign"} if is_private else {"verify"}
    known: dict[str, object] = {
        "key-type": "rsa",
        "label": label,
        "id": "",
        "check-value": Pattern("0x[0-9a-f]{6}"),
        "class": f"{label}-key",
        "key-length-bytes": Pattern("1[0-9]{3}") if is_private else 512,
        "public-exponent": "0x010001",
        "modulus": MODULUS,
        "modulus-size-bits": 2048,
    }
    value = 2 if is_private else 0
    return {
        "key-reference": Pattern("0x[0-9a-f]{16}"),
        "key-info": {
            "key-owners": [{"username": "cu1", "key-coverage": "full"}],
            "shared-users": [{"username": username, "key-coverage": "full"} for username in shared],
            "key-quorum-values": {"manage-key-quorum-value": value, "use-key-quorum-value": value},
            "cluster-coverage": "full",
        },
        "attributes": {name: known.get(name, name in true) for name in ATTRIBUTES.split()},
    }


def test_quorum_of_crypto_users(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's walk-through for crypto users: a key with quorum values, its use and its sharing, each with approvals."""
    people = (("cu1", "crypto-user", "one"), ("cu2", "crypto-user", "two"))
    page = "key-quorum-auth-chsm-cli-crypto-user"
    sign = "crypto sign rsa-pkcs --key-filter attr.label=private --hash-function sha256 --data YWJjMTIz"
    share = "key share --filter attr.label=private attr.class=private-key --username cu3 --role crypto-user"

    def token(service: str, file: str) -> Row:
        line = f"quorum token-sign generate --service {service} --token {file} --filter attr.label=private"
        return Row(page, line, {"filepath": file}, note="path here, filepath on the page of the command")

    def approved(page: str, line: str, file: str, data: object, who: Sequence[Any] = people) -> Row:
        return Row(page, f"{line} --approval {file}", data, typed=(desk.signed(file, *who),), first=True)

    rows = [
        Row("cloudhsm_cli-cluster-activate", f"cluster activate {PASSWORD_OPTION}", "Cluster activation successful"),
        login("admin", "admin"),
        *(
            Row(
                "cloudhsm_cli-user-create",
                f"user create --username {name} --role crypto-user {PASSWORD_OPTION}",
                user(name, "crypto-user"),
            )
            for name in ("cu1", "cu2", "cu3")
        ),
        LOGOUT,
        *registered(desk, "cu1", "crypto-user", "one"),
        *registered(desk, "cu2", "crypto-user", "two"),
        login("cu1", "crypto-user"),
        Row(
            "cloudhsm_cli-key-generate-asymmetric-pair-rsa",
            "key generate-asymmetric-pair rsa --public-exponent 65537 --modulus-size-bits 2048 --public-label public "
            "--private-label private --public-attributes verify=true --private-attributes sign=true "
            "--share-crypto-users cu2 --manage-private-key-quorum-value 2 --use-private-key-quorum-value 2",
            {"public_key": key("public"), "private_key": key("private", "cu2")},
            note="the sample shows sign=true on the public key too, which nobody asked for",
        ),
        Row(
            "cloudhsm_cli-key-list",
            "key list --max-items 1",
            {
                "matched_keys": [{"key-reference": Pattern("0x[0-9a-f]{16}"), "attributes": {"label": "public"}}],
                "total_key_count": 2,
                "returned_key_count": 1,
                "next_token": "1",
            },
        ),
        Row(page, sign, "Quorum Failed", 1),
        token("key-usage", "usage.json"),
        Row(
            page,
            "quorum token-sign list",
            {
                "tokens": [
                    {
                        "username": "cu1",
                        "service": "key-usage",
                        "key-reference": Pattern("0x[0-9a-f]{16}"),
                        "minimum-token-count": 1,
                    }
                ]
            },
        ),
        approved(page, sign, "usage.json", {"key-reference": Pattern("0x[0-9a-f]{16}"), "signature": SIGNATURE}),
        Row(page, f"{sign} --approval usage.json", QUORUM, 1, note="a public write-up has another text for this"),
        Row(page, "quorum token-sign list", {"tokens": []}),
        token("key-management", "management.json"),
        Row("cloudhsm_cli-key-share", share, "Quorum Failed", 1),
        approved("cloudhsm_cli-key-share", share, "management.json", {"message": "Key shared successfully"}),
        Row(
            "cloudhsm_cli-key-list",
            "key list --filter attr.label=private attr.class=private-key --verbose",
            {"matched_keys": [key("private", "cu2", "cu3")], "total_key_count": 1, "returned_key_count": 1},
        ),
        token("key-management", "unshare.json"),
        approved(
            "cloudhsm_cli-key-unshare",
            share.replace("share", "unshare", 1),
            "unshare.json",
            {"message": "Key unshared successfully"},
        ),
        Row(
            "key-quorum-auth-chsm-cli-first-time",
            share.replace("share", "unshare", 1).replace("cu3", "cu2"),
            "Invalid quorum value provided.",
            1,
        ),
        token("key-usage", "few.json"),
        approved(
            page,
            sign,
            "few.json",
            "Too few quorum approvals: currently 1 approvals, but 2 approvals required",
            people[:1],
        ),
        Row(
            "cloudhsm_cli-key-delete", "key delete --filter attr.label=public", {"message": "Key deleted successfully"}
        ),
    ]
    rows[-2].code = 1
    play(desk, monkeypatch, rows)
    file = json.loads((desk.directory / "usage.json").read_text())
    assert list(file) == ["version", "service", "key_reference", "approval_data", "token", "signatures"]
    assert (file["version"], file["service"]) == ("2.0", "key-usage")


def test_hsms(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """cluster hsm-info lists each HSM with the members of its page, and needs no login."""
    ((code, data),) = desk.run(monkeypatch, ["cluster hsm-info"])
    assert code == 0
    names = (
        "vendor model serial-number hardware-version-major hardware-version-minor firmware-version-major "
        "firmware-version-minor firmware-build-number firmware-id fips-state"
    )
    assert [list(hsm) for hsm in data["hsms"]] == [names.split()] * 2
    assert {type(value) for hsm in data["hsms"] for value in hsm.values()} == {str}


def test_the_prompt_after_a_login(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the option it names the user and the cluster until the logout; without, it stays as it is."""
    lines = [f"cluster activate {PASSWORD_OPTION}", login("admin", "admin").line, "logout"]
    desk.options = {"cluster_id": "cluster-a", "prompt_after_login": True}
    desk.run(monkeypatch, lines)
    assert desk.questions == ["aws-cloudhsm > "] * 2 + ["admin@cluster-a > ", "aws-cloudhsm > "]
    desk.questions, desk.options = [], {"cluster_id": "cluster-a"}
    desk.run(monkeypatch, lines)
    assert set(desk.questions) == {"aws-cloudhsm > "}


def test_the_registration_file_of_5_18(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an option it has an unsigned entry beside the tokens, and registers all the same."""
    desk.options = {"registration_signatures": True}
    rows = [
        Row("cloudhsm_cli-cluster-activate", f"cluster activate {PASSWORD_OPTION}", "Cluster activation successful"),
        *registered(desk, "admin", "admin", "one"),
    ]
    play(desk, monkeypatch, rows)
    file = json.loads((desk.directory / "admin.registration").read_text())
    assert list(file) == ["version", "tokens", "signatures"]
    assert file["signatures"] == [{"username": "admin", "role": "admin", "signature": ""}]


# --- help

ID, KEY_FILTER, APPROVAL = "--cluster-id <CLUSTER_ID>", "--key-filter [<KEY_FILTER>...]", "--approval <APPROVAL>"
HASH, DATA = "--hash-function <HASH_FUNCTION>", ("--data-path <DATA_PATH>", "--data <DATA>")
USER = ("--username <USERNAME>", "--role <ROLE>")
FILTER = "--filter [<FILTER>...]"
TYPE = "--data-type <DATA_TYPE>"
PAIR = (
    "--public-label <PUBLIC_LABEL>",
    "--private-label <PRIVATE_LABEL>",
    "--modulus-size-bits <MODULUS_SIZE_BITS>",
    "--public-exponent <PUBLIC_EXPONENT>",
)

HELP: dict[str, tuple[str, tuple[str, ...]]] = {
    "cluster hsm-info": ("", (ID,)),
    "crypto sign rsa-pkcs": (
        f"{KEY_FILTER} {HASH} <--data-path <DATA_PATH>|--data <DATA>>",
        (ID, KEY_FILTER, HASH, *DATA, APPROVAL, TYPE),
    ),
    "key delete": (FILTER, (ID, FILTER)),
    "key generate-asymmetric-pair rsa": (
        " ".join(PAIR),
        (
            ID,
            *PAIR[:2],
            "--session",
            *PAIR[2:],
            "--public-attributes [<PUBLIC_KEY_ATTRIBUTES>...]",
            "--private-attributes [<PRIVATE_KEY_ATTRIBUTES>...]",
            "--share-crypto-users [<SHARE_CRYPTO_USERS>...]",
            "--manage-private-key-quorum-value <MANAGE_PRIVATE_KEY_QUORUM_VALUE>",
            "--use-private-key-quorum-value <USE_PRIVATE_KEY_QUORUM_VALUE>",
        ),
    ),
    "key share": (f"{FILTER} --username <USERNAME> --role <ROLE>", (ID, FILTER, *USER, APPROVAL)),
    # The how-to page for crypto users has a --filter that this page's help lacks.
    "quorum token-sign generate": (
        "--service <SERVICE> --token <TOKEN>",
        (ID, "--service <SERVICE>", "--token <TOKEN>", FILTER),
    ),
}
"""What the command's page shows: what its usage line asks for, and its options in their order."""


@pytest.mark.parametrize("name", HELP)
def test_help_as_the_pages_show_it(name: str) -> None:
    """Usage and options are the page's, in clap's layout.

    Some pages leave [OPTIONS] out of the usage line and some of the same age do not; hsm-info alone begins it with
    cloudhsm-cli.
    """
    needs, options = HELP[name]
    text = parser().find(name.split()).help_text(brief=False)
    about, blank, usage, *_ = text.splitlines()
    assert about
    assert blank == ""
    assert usage.replace(" [OPTIONS]", "") == f"Usage: {name} {needs}".rstrip()
    found = re.findall(
        r"^      (--[a-z-]+(?: \[?<[A-Z_]+>(?:\.\.\.\])?)?)", text.split("\nOptions:\n")[1], re.MULTILINE
    )
    assert tuple(found) == options
    last = text.rstrip("\n").splitlines()
    assert any(line.startswith("  -h, --help") for line in last[-2:])
    assert "Print help" in last[-1]
    assert ("see a summary with '-h'" in last[-1]) == ("Possible values:" in text)

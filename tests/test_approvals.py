"""Signatures of people with names: approvals of quorum tokens, copies that combine, and authdata with its key."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Done, Shell, need

AWS_QUORUM = ROOT / "examples" / "aws-quorum"
TOKEN = "user-management.token"
USERS = ("admin2", "admin3")
NOBODY = base64.b64encode(b"\xa5" * 256).decode()
"""Text of the size of a signature, made by no key."""


@pytest.fixture(scope="session")
def officers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of two approvers, and their signatures of AWS's token."""
    need("openssl")
    folder = tmp_path_factory.mktemp("officers")
    digest = base64.b64decode(json.loads((AWS_QUORUM / TOKEN).read_bytes())["token"])
    for user in USERS:
        script = f"""
            set -e
            openssl genrsa -out {user}.key 2048
            openssl rsa -in {user}.key -pubout -out {user}.pub
            openssl pkeyutl -sign -inkey {user}.key -pkeyopt digest:sha256 -out {user}.sig
        """
        subprocess.run(["sh", "-c", script], cwd=folder, input=digest, check=True, capture_output=True)
    return folder


@pytest.fixture
def quorum(shell: Shell, officers: Path) -> Shell:
    """A folder with one file of each kind, unsigned (admin.token for the quorum token), and what approvers have."""
    for path in officers.iterdir():
        shell.write(path.name, path.read_bytes())
    token = (AWS_QUORUM / TOKEN).read_bytes()
    shell.write("admin.token", token)
    of_token = json.loads(token)
    entry = {"approval_data": of_token["approval_data"], "unsigned": of_token["token"], "signed": ""}
    put(shell, "registration.json", {"version": "2.0", "tokens": [entry]})
    hsm = {"HsmId": "hsm-lgavqitns2a", "Digest": of_token["token"], "Signature": ""}
    shell.write("authdata.json", authdata(hsm, hsm))
    return shell


def authdata(*entries: dict[str, str], public_key: str | None = "") -> bytes:
    """Return authdata as the CMU lays it out."""
    key = {} if public_key is None else {"PublicKey": public_key}
    return (json.dumps({"Version": "1.0", **key, "Data": entries}, indent=4) + "\n").encode()


def put(shell: Shell, name: str, document: dict[str, Any]) -> None:
    """Write a token file as the CloudHSM CLI lays it out."""
    shell.write(name, (json.dumps(document, indent=2) + "\n").encode())


def signature(shell: Shell, user: str) -> str:
    """Return the text of an approver's signature."""
    return base64.b64encode(shell.read(f"{user}.sig")).decode()


def entry(shell: Shell, user: str, role: str = "admin", **more: Any) -> dict[str, Any]:
    """Return an approver's genuine entry."""
    return {"username": user, "role": role, "signature": signature(shell, user), **more}


def approved(shell: Shell, name: str, *entries: dict[str, Any]) -> None:
    """Write a copy of AWS's token with these approvals."""
    put(shell, name, {**json.loads((AWS_QUORUM / TOKEN).read_bytes()), "signatures": entries})


def signatures(content: bytes) -> list[dict[str, Any]]:
    """Return the approvals in a quorum token."""
    listed: list[dict[str, Any]] = json.loads(content)["signatures"]
    return listed


def check_nothing_written(shell: Shell, done: Done, status: int, *said: str) -> None:
    """Assert that a merge was refused in one line, perhaps with a hint, and left every file as it was."""
    done.check(status, *said)
    lines = done.err.splitlines()
    assert done.out == b""
    assert [line.startswith("tok-merge: hint: ") for line in lines] in ([False], [False, True]), done
    assert shell.read("admin.token") == (AWS_QUORUM / TOKEN).read_bytes()
    assert not (shell.cwd / "out").exists()
    assert not list(shell.cwd.glob(".toktools-*"))


# --- tok-merge -u


def test_entry_after_the_others(quorum: Shell) -> None:
    """An approver's entry is added after the others as username, role, signature, and nothing else changes."""
    other = {"note": {"z": 1, "a": None}, "signature": "to be signed", "username": "Admin_1", "role": "admin"}
    approved(quorum, "one.token", other)
    before = quorum.read("one.token")
    quorum.run("tok-merge", "-i", "-u", "admin2", "-R", "admin", "one.token", "admin2.sig").check(0)
    new = json.dumps(entry(quorum, "admin2"), indent=2).replace("\n", "\n    ").encode()
    assert quorum.read("one.token") == before.replace(b"\n    }\n  ]", b"\n    },\n    " + new + b"\n  ]")
    assert list(signatures(quorum.read("one.token"))[1]) == ["username", "role", "signature"]


def test_entry_in_its_place(quorum: Shell) -> None:
    """The signature of the same user, in whatever case, and role is replaced; all else stays byte for byte."""
    mine = {"role": "admin", "x": [1.5], "username": "ADMIN2", "signature": "old", "y": {}}
    others = [entry(quorum, "admin3"), entry(quorum, "admin2", "crypto-user") | {"signature": "of the crypto user"}]
    approved(quorum, "one.token", others[0], mine, others[1])
    before = quorum.read("one.token")
    done = quorum.run("tok-merge", "-u", "admin2", "-R", "admin", "one.token", "admin2.sig").check(0)
    expected = before.replace(b'"old"', f'"{signature(quorum, "admin2")}"'.encode())
    assert done.out == expected
    assert done.err == ""


def test_pipeline_of_two_approvers(quorum: Shell) -> None:
    """Two approvers who sign one file after the other leave a file that both keys verify."""
    for user in USERS:
        pipeline = "tok-extract admin.token | tok-sign -k {0}.key | tok-merge -i -u {0} -R admin -p {0}.pub admin.token"
        quorum.sh(pipeline.format(user)).check(0)
    assert signatures(quorum.read("admin.token")) == [entry(quorum, user) for user in USERS]
    done = quorum.run("tok-verify", "-p", "admin2.pub", "-p", "admin3.pub", "--need", "2", "admin.token").check(0)
    assert done.out.decode().splitlines()[:2] == [f"admin.token: approver {user}: OK" for user in USERS]


def test_only_the_added_entry_is_verified(quorum: Shell) -> None:
    """With -p the added signature alone is verified: others' are theirs, and a wrong one is not written."""
    approved(quorum, "one.token", {"username": "admin1", "role": "admin", "signature": NOBODY})
    words = ("tok-merge", "-o", "out", "-u", "admin2", "-R", "admin", "-p", "admin2.pub", "one.token")
    check_nothing_written(quorum, quorum.run(*words, "admin3.sig"), 1, "approver admin2: not made by the given key")
    quorum.run(*words, "admin2.sig").check(0)
    assert signatures(quorum.read("out"))[1] == entry(quorum, "admin2")


def test_other_role_of_the_same_name_is_not_verified(quorum: Shell) -> None:
    """An admin and a crypto user of one name have keys of their own, and -p verifies the added entry alone."""
    approved(quorum, "one.token", entry(quorum, "admin3", "crypto-user") | {"username": "admin2"})
    words = ("tok-merge", "-u", "admin2", "-R", "admin", "-p", "admin2.pub", "one.token", "admin2.sig")
    assert signatures(quorum.run(*words).check(0).out)[1] == entry(quorum, "admin2")


@pytest.mark.parametrize("user", ["admin2", "A", "_", "7", "Crypto_User_1", "a" * 31])
def test_good_user_names(quorum: Shell, user: str) -> None:
    """A name of 1 to 31 letters, digits and underscores is written as it is given."""
    done = quorum.run("tok-merge", "-u", user, "-R", "crypto-user", "admin.token", "admin2.sig").check(0)
    assert signatures(done.out) == [entry(quorum, "admin2", "crypto-user") | {"username": user}]


@pytest.mark.parametrize(
    "user", ["", "a" * 32, "a b", "admin-2", "admin.2", "a@b", "\u00e9", "admin2\n", "\u0661", "a=b"]
)
def test_bad_user_names(quorum: Shell, user: str) -> None:
    """A name that no CloudHSM user can have is refused."""
    done = quorum.run("tok-merge", "-o", "out", "-u", user, "-R", "admin", "admin.token", "admin2.sig")
    check_nothing_written(quorum, done, 2, "-u: a CloudHSM user name has 1 to 31 letters, digits and underscores")


def test_role_that_is_missing(quorum: Shell) -> None:
    """Without -R there is a warning where the CLI writes roles; a file of 2023, which has none, gets none."""
    done = quorum.run("tok-merge", "-u", "admin2", "admin.token", "admin2.sig").check(0, "tok-merge: ", "-R")
    assert len(done.err.splitlines()) == 1
    assert list(signatures(done.out)[0]) == ["username", "signature"]
    quorum.write("old.token", (AWS_QUORUM / "user-2023.token").read_bytes())
    done = quorum.run("tok-merge", "-u", "admin2", "old.token", "admin2.sig").check(0)
    assert (done.err, list(signatures(done.out)[0])) == ("", ["username", "signature"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *((f"-u admin2 {name} admin2.sig", "-u: this is a") for name in ("f.json", "authdata.json")),
        ("-u admin2 -R admin registration.json admin2.sig", "-u: this is a"),
        ("-R admin f.json admin2.sig", "-R: this is a"),
        ("--approvals f.json f.json", "--approvals: this is a"),
        ("--public-key admin2.pub f.json admin2.sig", "--public-key: this is a"),
        ("--public-key admin2.pub registration.json admin2.sig", "--public-key: this is a"),
        ("-u admin2 -R admin --public-key admin2.pub admin.token admin2.sig", "--public-key: this is a"),
        ("admin.token admin2.sig", "a quorum token takes the signature of an approver"),
        ("-R admin admin.token admin2.sig", "a quorum token takes the signature of an approver"),
        ("-u admin2 -R owner admin.token admin2.sig", "-R: a role must be admin or crypto-user"),
        ("-u admin2 -R Admin admin.token admin2.sig", "-R: a role must be admin or crypto-user"),
        ("-u admin2 --approvals admin.token admin.token", "-u and --approvals cannot be used together"),
        ("-R admin --approvals admin.token admin.token", "-R needs -u, the approver"),
        ("--approvals admin.token", "copies of the quorum token are missing"),
        ("-u admin2 -R admin admin.token admin2.sig admin3.sig", "1 token but"),
        ("-u admin2 -R admin admin.token", "1 token but 0 signatures"),
        ("-u admin2 -R admin admin.token admin2.pub", "admin2.pub: "),
        ("-u admin2 -R admin -n 2 admin.token admin2.sig", "-n"),
    ],
)
def test_options_that_do_not_fit(quorum: Shell, words: str, said: str) -> None:
    """Options for another kind of file, or that miss another, get one line, and nothing is written."""
    check_nothing_written(quorum, quorum.run("tok-merge", "-o", "out", *words.split()), 2, said)


# --- tok-merge --approvals


def test_copies_combine(quorum: Shell) -> None:
    """Approvals of two copies come together in their order, an entry that comes twice once, with all its members."""
    approved(quorum, "copy1.token", entry(quorum, "admin2", note=1.50))
    approved(quorum, "copy2.token", entry(quorum, "admin3"), entry(quorum, "admin2"))
    done = quorum.run("tok-merge", "--approvals", "admin.token", "copy1.token", "copy2.token").check(0)
    assert signatures(done.out) == [entry(quorum, "admin2", note=1.50), entry(quorum, "admin3")]
    assert done.err == ""
    again = quorum.run("tok-merge", "--approvals", "-", "copy2.token", stdin=done.out).check(0)
    assert again.out == done.out


@pytest.mark.parametrize("flag", ["-i", "-o"])
def test_copies_combine_in_a_file(quorum: Shell, flag: str) -> None:
    """Approvals are taken with -p only if all that are taken verify, and go into the file of -i or -o."""
    approved(quorum, "copy1.token", entry(quorum, "admin2"))
    approved(quorum, "copy2.token", entry(quorum, "admin3"))
    where = ["-i"] if flag == "-i" else ["-o", "out"]
    words = ["tok-merge", *where, "--approvals", "-p", "admin2.pub", "admin.token", "copy1.token", "copy2.token"]
    check_nothing_written(quorum, quorum.run(*words), 1, "approver admin3: not made by the given key")
    assert quorum.run(*words[:-1]).check(0).out == b""
    assert signatures(quorum.read("admin.token" if flag == "-i" else "out")) == [entry(quorum, "admin2")]


@pytest.mark.parametrize(
    "copies", [["good.token", "wrong.token"], ["wrong.token", "good.token"]], ids=["wrong last", "wrong first"]
)
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: (AWS_QUORUM / "key-usage.token").read_bytes(), "this is a copy of another token"),
        (lambda shell: shell.read("registration.json"), "this is a copy of another token"),
        (lambda shell: shell.read("f.json"), "this is a copy of another token"),
        (lambda _: b"garbage", "not JSON: line 1, column 1"),
        (lambda _: b"", "an empty file"),
        (lambda shell: shell.read("admin.token").replace(b"0l2L", b"0l2M"), "do not sign it"),
        (lambda shell: copy(shell, "admin3", "x"), "approver admin3: not "),
        (lambda shell: copy(shell, "admin3", NOBODY[:-4]), "approver admin3: "),
        (lambda shell: copy(shell, "admin3", base64.b64encode(b"\xa5" * 255).decode()), "approver admin3: wrong size"),
        (lambda shell: copy(shell, "admin2", NOBODY), "approver admin2 has two different entries"),
        (lambda shell: copy(shell, "ADMIN2", NOBODY), "two different entries"),
        (lambda shell: copy(shell, "admin3", signature(shell, "admin2")), "have the same signature"),
    ],
)
def test_wrong_copies(quorum: Shell, make: Any, said: str, copies: list[str]) -> None:
    """A copy of something else, a broken one, and one that contradicts another are refused with all the rest."""
    approved(quorum, "good.token", entry(quorum, "admin2"))
    quorum.write("wrong.token", make(quorum))
    done = quorum.run("tok-merge", "-o", "out", "--approvals", "admin.token", *copies)
    check_nothing_written(quorum, done, 2, said)


def copy(shell: Shell, user: str, text: str) -> bytes:
    """Return a copy of AWS's token with one approval."""
    approved(shell, "copy", {"username": user, "role": "admin", "signature": text})
    return shell.read("copy")


def test_places_that_wait_for_a_signature(quorum: Shell) -> None:
    """An unsigned entry is filled by the approver's copy, and one in a copy takes nothing away."""
    unsigned = [entry(quorum, user) | {"signature": ""} for user in USERS]
    signed = [entry(quorum, user) for user in USERS]
    approved(quorum, "open.token", *unsigned)
    approved(quorum, "copy1.token", signed[0], unsigned[1])
    approved(quorum, "copy2.token", unsigned[0], signed[1])
    words = ("tok-merge", "--approvals", "-p", "admin2.pub", "-p", "admin3.pub", "open.token")
    for copies in (("copy1.token", "copy2.token"), ("copy2.token", "copy1.token")):
        assert signatures(quorum.run(*words, *copies).check(0).out) == signed


def test_copy_that_is_not_there(quorum: Shell) -> None:
    """A copy that cannot be read is trouble, and nothing is written."""
    done = quorum.run("tok-merge", "-o", "out", "--approvals", "admin.token", "missing.token")
    check_nothing_written(quorum, done, 2, "missing.token: ")


def test_one_signature_of_two_approvers(quorum: Shell) -> None:
    """AWS's own sample has one signature under two names; it is not written, whichever way the second one comes."""
    approved(quorum, "one.token", entry(quorum, "admin2"))
    done = quorum.run("tok-merge", "-o", "out", "-u", "admin3", "-R", "admin", "one.token", "admin2.sig")
    check_nothing_written(quorum, done, 2, "approver admin2 and approver admin3 have the same signature")


@pytest.mark.parametrize(
    "tool", [("tok-extract",), ("tok-merge", "-u", "admin2", "-R", "admin"), ("tok-verify", "-p", "admin2.pub")]
)
@pytest.mark.parametrize("name", ["admin.token", "registration.json"])
def test_nobody_signs_blind(quorum: Shell, tool: tuple[str, ...], name: str) -> None:
    """What shows other bytes than those that are signed is refused, by the tools that sign; tok-inspect shows it."""
    text = quorum.read(name)
    blind = text.replace(b"AAEAAwAAABg", b"AAEAAwAAABk")
    assert blind != text
    quorum.write("blind", blind)
    said = 'blind: token 1: the digest is not the SHA-256 of "approval_data"; do not sign it'
    assert quorum.run(*tool, "blind").check(2, said).out == b""
    assert b"NOT the digest" in quorum.run("tok-inspect", "blind").check(0).out


@pytest.mark.parametrize("tool", ["tok-extract", "tok-inspect"])
def test_approval_data_that_is_not_base64(quorum: Shell, tool: str) -> None:
    """Approval data that is not base64 is refused with the file's name, even to look at."""
    quorum.write("broken", re.sub(rb'"AAEA[^"]*"', b'"?"', quorum.read("admin.token")))
    assert quorum.run(tool, "broken").check(2, f'{tool}: broken: token 1: "approval_data": not base64').out == b""


# --- tok-verify


@pytest.mark.parametrize(
    ("options", "status", "lines"),
    [
        ("-p admin2.pub -p admin3.pub", 0, ["approver admin2: OK", "approver admin3: OK"]),
        ("-p admin2=admin2.pub -p admin3=admin3.pub", 0, ["approver admin2: OK", "approver admin3: OK"]),
        ("-p ADMIN2=admin2.pub -p admin3.pub", 0, ["approver admin2: OK", "approver admin3: OK"]),
        ("-p ./a=b.pub -p admin3=a=3.pub", 0, ["approver admin2: OK", "approver admin3: OK"]),
        ("-p admin2=admin2.pub", 1, ["approver admin2: OK", "approver admin3: FAILED: no key is given"]),
        ("-p admin2.pub", 1, ["approver admin2: OK", "approver admin3: FAILED: not made by the given key"]),
        (
            "-p admin2=admin3.pub -p admin2.pub -p admin3.pub",
            1,
            ["approver admin2: FAILED: not made by the given key", "approver admin3: OK"],
        ),
        ("-p admin2.pub -p admin3.pub --need 2 -q", 0, []),
        (
            "-p admin2.pub -p admin3.pub --need 2",
            0,
            ["approver admin2: OK", "approver admin3: OK", "approvals: OK"],
        ),
        ("-p admin2.pub -p admin3.pub --need 3 -q", 1, ["approvals: FAILED: 2 of 3"]),
        (
            "-p admin2.pub --need 2 -q",
            1,
            ["approver admin3: FAILED: not made by the given key", "approvals: FAILED: 1 of 2"],
        ),
    ],
)
def test_verify_by_approver(quorum: Shell, options: str, status: int, lines: list[str]) -> None:
    """Each approver has a line; a key given for one is the only one for that one, and --need counts the good."""
    approved(quorum, "admin.token", *(entry(quorum, user) for user in USERS))
    quorum.write("a=b.pub", quorum.read("admin2.pub"))
    quorum.write("a=3.pub", quorum.read("admin3.pub"))
    done = quorum.run("tok-verify", *options.split(), "admin.token").check(status)
    assert done.out.decode().splitlines() == [f"admin.token: {line}" for line in lines]
    assert done.err == ""


def test_one_key_behind_two_approvers(quorum: Shell) -> None:
    """One key is good for one approver, under however many names it is given, as in AWS's published sample."""
    approved(quorum, "admin.token", *(entry(quorum, "admin2") | {"username": user} for user in USERS))
    for keys in (["admin2.pub"], ["admin2=admin2.pub", "admin3=admin2.pub"], ["admin2.pub", "admin2.key"]):
        options = [word for key in keys for word in ("-p", key)]
        done = quorum.run("tok-verify", "--need", "2", *options, "admin.token").check(1)
        assert done.out.decode().splitlines() == [
            "admin.token: approver admin2: OK",
            "admin.token: approver admin3: FAILED: the same key as that of approver admin2",
            "admin.token: approvals: FAILED: 1 of 2",
        ]


def test_one_approver_twice(quorum: Shell) -> None:
    """An approver in two roles is one approver for --need."""
    approved(quorum, "admin.token", *(entry(quorum, "admin2", role) for role in ("admin", "crypto-user")))
    done = quorum.run("tok-verify", "--need", "2", "-q", "-p", "admin2.pub", "admin.token").check(1)
    assert done.out == b"admin.token: approvals: FAILED: 1 of 2\n"


@pytest.mark.parametrize(
    ("entries", "options", "said"),
    [
        ([], [], "approvals: FAILED: 0 of 1"),
        ([], ["--need", "2"], "approvals: FAILED: 0 of 2"),
        ([{"username": "admin2", "signature": ""}], [], "approver admin2: FAILED: unsigned"),
        ([{"username": "a\u001b[2J", "signature": "?"}], [], r'approver "a\x1b[2J": FAILED: not base64'),
    ],
)
def test_no_good_approvals(quorum: Shell, entries: list[dict[str, str]], options: list[str], said: str) -> None:
    """A token that nobody approved is not OK, though nothing in it is wrong."""
    approved(quorum, "admin.token", *entries)
    done = quorum.run("tok-verify", *options, "-p", "admin2.pub", "admin.token").check(1)
    assert f"admin.token: {said}" in done.out.decode().splitlines()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *(
            (f"--need {number} -p admin2.pub admin.token", "--need: ")
            for number in ("0", "9", "-1", "x", "1.5", "\u0662")
        ),
        *((f"--need {number} -p admin2.pub admin.token", "--need: ") for number in ("00080", "0008" + "0" * 5000)),
        *(
            (f"--need 2 -p admin2.pub {name}", f"{name}: --need is for a quorum token")
            for name in ("f.json", "registration.json", "authdata.json")
        ),
        *((name, f"{name}: -p PUB is missing") for name in ("admin.token", "f.json", "registration.json")),
        ("authdata.json", "authdata.json: -p PUB is missing"),
        ("-p admin2=missing.pub admin.token", "missing.pub: "),
        ("-p admin2=admin2.sig admin.token", "admin2.sig: "),
    ],
)
def test_questions_that_cannot_be_put(quorum: Shell, words: str, said: str) -> None:
    """A bad number, no key, or a broken one is trouble: one line, and exit status 2."""
    done = quorum.run("tok-verify", *words.split()).check(2, said)
    assert done.out == b""
    assert len([line for line in done.err.splitlines() if "hint: " not in line]) == 1


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        ("-p admin2=admin2.pub", 0, ""),
        ("-p Admin2=admin2.pub -p admin3=admin3.pub", 0, ""),
        ("-p admin3=admin3.pub -p admin2.pub", 0, ""),
        ("-p admin2.pub", 0, ""),
        ("-p admin3=admin2.pub", 1, "approver admin2: no key is given"),
        ("-p admin2=admin3.pub -p admin2.pub", 1, "approver admin2: not made by the given key"),
        ("-p admin2=missing.pub", 2, "missing.pub: no such file"),
    ],
)
def test_merge_by_approver(quorum: Shell, options: str, status: int, said: str) -> None:
    """USER=PUB means in tok-merge what it means in tok-verify, which takes what the merge has written."""
    words = ["tok-merge", "-u", "admin2", "-R", "admin", *options.split(), "-o", "out", "admin.token", "admin2.sig"]
    done = quorum.run(*words)
    if status:
        check_nothing_written(quorum, done, status, said)
    else:
        done.check(0)
        given = [word for word in options.split() if word != "-p" and "3" not in word]
        quorum.run("tok-verify", "-p", *given, "out").check(0)


def test_merge_of_copies_by_approver(quorum: Shell) -> None:
    """Copies are verified each by the key of its approver, and one key is good for one approver there too."""
    for user in USERS:
        approved(quorum, f"{user}.token", entry(quorum, user))
    merge = ["tok-merge", "--approvals", "-o", "out", "admin.token", "admin2.token", "admin3.token"]
    quorum.run(*merge, "-p", "admin2=admin2.pub", "-p", "admin3=admin3.pub").check(0)
    (quorum.cwd / "out").unlink()
    crossed = quorum.run(*merge, "-p", "admin2=admin3.pub", "-p", "admin3=admin2.pub")
    check_nothing_written(quorum, crossed, 1, "approver admin2: not made by the given key")


# --- the public key in authdata


def test_public_key_in_authdata(quorum: Shell) -> None:
    """The public key goes into authdata as openssl writes it, and verifies the file when no other is given."""
    pipeline = "tok-extract authdata.json | tok-sign -k admin2.key | tok-merge -i --public-key {} authdata.json"
    hsm = {"HsmId": "hsm-lgavqitns2a", "Digest": json.loads(quorum.read("admin.token"))["token"]}
    signed = hsm | {"Signature": signature(quorum, "admin2")}
    for key in ("admin2.pub", "admin2.key"):
        quorum.sh(pipeline.format(key)).check(0)
        assert quorum.read("authdata.json") == authdata(signed, signed, public_key=quorum.read("admin2.pub").decode())
    inside = "(by the PublicKey in the file)"
    for options, remark in (([], f" {inside}"), (["-p", "admin2.pub"], "")):
        done = quorum.run("tok-verify", *options, "authdata.json").check(0)
        assert done.out.decode().splitlines() == [f"authdata.json: token {n}: OK{remark}" for n in (1, 2)]
    done = quorum.run("tok-verify", "-p", "admin3.pub", "authdata.json").check(1)
    assert inside.encode() not in done.out


def test_public_key_where_there_was_none(quorum: Shell) -> None:
    """The member is added where the file lacks it, but not with a bad signature, or from a file that is no key."""
    hsm = {"HsmId": "hsm-1", "Digest": json.loads(quorum.read("admin.token"))["token"], "Signature": ""}
    quorum.write("authdata.json", authdata(hsm, public_key=None))
    words = ("tok-merge", "-o", "out", "--public-key")
    done = quorum.run(*words, "admin2.pub", "-p", "admin2.pub", "authdata.json", "admin3.sig")
    check_nothing_written(quorum, done, 1, "token 1: not made by the given key")
    for wrong in ("missing.pub", "admin2.sig", ""):
        check_nothing_written(quorum, quorum.run(*words, wrong, "authdata.json", "admin2.sig"), 2)
    quorum.run(*words, "admin2.pub", "authdata.json", "admin2.sig").check(0)
    assert json.loads(quorum.read("out"))["PublicKey"] == quorum.read("admin2.pub").decode()


@pytest.mark.parametrize("inside", ["x", "\u001b[2J", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_broken_public_key_in_authdata(quorum: Shell, inside: str) -> None:
    """A key inside that is none gets one line that names its member, and a key of -p takes its place."""
    hsm = {"Digest": json.loads(quorum.read("admin.token"))["token"], "Signature": signature(quorum, "admin2")}
    quorum.write("authdata.json", authdata(hsm, public_key=inside))
    done = quorum.run("tok-verify", "authdata.json").check(2, "authdata.json: PublicKey: ")
    assert (done.out, "\u001b" in done.err) == (b"", False)
    assert len([line for line in done.err.splitlines() if "hint: " not in line]) == 1
    quorum.run("tok-verify", "-p", "admin2.pub", "authdata.json").check(0)


def test_an_approver_who_is_there_twice(quorum: Shell) -> None:
    """A file with two entries of one approver is refused: one of them would stay, unseen."""
    approved(quorum, "twice.token", entry(quorum, "admin2"), entry(quorum, "admin3") | {"username": "ADMIN2"})
    words = ("tok-merge", "-u", "admin2", "-R", "admin", "twice.token", "admin2.sig")
    quorum.run(*words).check(2, "twice.token: approver ADMIN2 has two entries")


def test_a_key_whose_owner_has_not_signed(quorum: Shell) -> None:
    """Whoever names an approver's key wants that approval: its absence is not OK."""
    approved(quorum, "one.token", entry(quorum, "admin2"))
    done = quorum.run("tok-verify", "-p", "admin2=admin2.pub", "-p", "admin3=admin3.pub", "one.token").check(1)
    assert b"one.token: approver admin3: FAILED: no approval\n" in done.out


def test_a_copy_without_an_approval(quorum: Shell) -> None:
    """A copy that nobody has signed gives nothing, and that is said."""
    quorum.write("copy", quorum.read("admin.token"))
    quorum.run("tok-merge", "--approvals", "admin.token", "copy").check(2, "copy: this copy has no approval")


def test_many_approvals(quorum: Shell) -> None:
    """The time to combine copies grows with their approvals, not with the square of their number."""
    many = [entry(quorum, "admin2") | {"username": f"u{number}", "signature": NOBODY} for number in range(5000)]
    approved(quorum, "many.token", *many[:1])
    approved(quorum, "copy", *many)
    done = quorum.run("tok-merge", "--approvals", "many.token", "copy", timeout=120)
    done.check(2, "have the same signature")


def test_json_is_plain_ascii(quorum: Shell) -> None:
    """What tok-inspect --json writes moves no cursor, whatever names are in the file."""
    approved(quorum, "odd.token", entry(quorum, "admin2") | {"username": "\x9b31m\u202e"})
    out = quorum.run("tok-inspect", "--json", "odd.token").check(0).out
    assert out.isascii()
    assert json.loads(out)["approvals"][0]["username"] == "\x9b31m\u202e"


def test_those_who_need_not_sign(quorum: Shell) -> None:
    """With --need, two of three are enough, whether the keys are named or not and a place waits for the third."""
    waiting = {"username": "admin4", "role": "admin", "signature": ""}
    approved(quorum, "two.token", *(entry(quorum, user) for user in USERS), waiting)
    named = ["-p", "admin2=admin2.pub", "-p", "admin3=admin3.pub", "-p", "admin4=admin2.pub"]
    for keys in (named, ["-p", "admin2.pub", "-p", "admin3.pub"]):
        quorum.run("tok-verify", "--need", "2", "-q", *keys, "two.token").check(0)
        quorum.run("tok-verify", "--need", "3", "-q", *keys, "two.token").check(1)
        quorum.run("tok-verify", "-q", *keys, "two.token").check(1)


def test_a_user_who_is_there_with_a_role(quorum: Shell) -> None:
    """Without -R nobody is added a second time."""
    approved(quorum, "one.token", entry(quorum, "admin2"))
    done = quorum.run("tok-merge", "-u", "Admin2", "one.token", "admin2.sig")
    done.check(
        2, "one.token: approver Admin2 already has an entry with a role; nothing written", "hint: give the role with -R"
    )


def test_a_role_that_comes_later(quorum: Shell) -> None:
    """Who is there without a role is nobody else than who comes with one: the entry stands once, and has the role."""
    later = entry(quorum, "admin2")
    first = {name: text for name, text in later.items() if name != "role"}
    approved(quorum, "first.token", first)
    approved(quorum, "later.token", later)
    done = quorum.run("tok-merge", "-u", "ADMIN2", "-R", "admin", "first.token", "admin2.sig").check(0)
    assert signatures(done.out) == [later]
    for copies in (["first.token", "later.token"], ["later.token", "first.token"]):
        done = quorum.run("tok-merge", "--approvals", "admin.token", *copies).check(0)
        assert signatures(done.out) == [later]
    approved(quorum, "other.token", first | {"signature": signature(quorum, "admin3")})
    for words in (("first.token", "later.token", "other.token"), ("later.token", "other.token")):
        done = quorum.run("tok-merge", "--approvals", "-o", "out", "admin.token", *words)
        check_nothing_written(quorum, done, 2, "other.token: approver admin2 has two different entries")


def test_a_public_key_that_is_none_of_the_given(quorum: Shell) -> None:
    """The key that is filled in must have signed, and so must one of -p."""
    words = ("--public-key", "admin2.pub", "-n", "1", "authdata.json", "admin2.sig")
    quorum.run("tok-merge", "-p", "admin2.pub", *words).check(0)
    quorum.run("tok-merge", "-p", "admin3.pub", *words).check(1, "token 1: not made by the given key")
    quorum.run("tok-merge", *words[:-1], "admin3.sig").check(1, "token 1: not made by the given key")


def test_what_stays_is_not_judged(quorum: Shell) -> None:
    """A flaw between two approvals that stood there before, as in AWS's published sample, does not stop a third."""
    twins = [entry(quorum, "admin2") | {"username": user} for user in ("a", "b")]
    approved(quorum, "twins.token", *twins)
    quorum.run("tok-merge", "-u", "admin3", "-R", "admin", "twins.token", "admin3.sig").check(0)
    quorum.run("tok-merge", "-u", "c", "-R", "admin", "twins.token", "admin2.sig").check(2, "the same signature")

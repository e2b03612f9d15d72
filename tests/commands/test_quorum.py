"""tok-merge and tok-verify with quorum tokens: approvers, copies that combine, and whose key it is."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from conftest import ROOT, Done, Shell, key_of, rsa_key

from toktools.keys.files import pem

AWS_QUORUM = ROOT / "examples" / "aws-quorum"
TOKEN = (AWS_QUORUM / "user-management.token").read_bytes()
USERS = ("admin2", "admin3")
NOBODY = base64.b64encode(b"\xa5" * 256).decode()
"""Text of the size of a signature, made by no key."""


@pytest.fixture
def quorum(shell: Shell) -> Shell:
    """A directory with a file of each kind, and the public keys of two approvers and their signatures."""
    token = json.loads(TOKEN)
    for user in USERS:
        shell.write(f"{user}.pub", pem(rsa_key(user).public_key()).encode())
        shell.write(f"{user}.sig", key_of(user).sign(base64.b64decode(token["token"])))
    shell.write("admin.token", TOKEN)
    entry = {"approval_data": token["approval_data"], "unsigned": token["token"], "signed": ""}
    put(shell, "registration.json", {"version": "2.0", "tokens": [entry]})
    return shell


def put(shell: Shell, name: str, document: dict[str, Any]) -> None:
    """Write a token file as the CloudHSM CLI lays it out."""
    shell.write(name, (json.dumps(document, indent=2) + "\n").encode())


def signature(shell: Shell, user: str) -> str:
    return base64.b64encode(shell.read(f"{user}.sig")).decode()


def entry(shell: Shell, user: str, role: str = "admin", **more: Any) -> dict[str, Any]:
    """Return an approver's genuine entry."""
    return {"username": user, "role": role, "signature": signature(shell, user), **more}


def approved(shell: Shell, name: str, *entries: dict[str, Any]) -> None:
    """Write a copy of AWS's token with these approvals."""
    put(shell, name, {**json.loads(TOKEN), "signatures": entries})


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
    assert shell.read("admin.token") == TOKEN
    assert not (shell.cwd / "out").exists()


# --- tok-merge -u


def test_entry_after_the_others(quorum: Shell) -> None:
    """An approver's entry is added after the others as username, role, signature, and nothing else changes."""
    other = {"note": {"z": 1, "a": None}, "signature": "to be signed", "username": "Admin_1", "role": "admin"}
    approved(quorum, "one.token", other)
    before = quorum.read("one.token")
    quorum.run("tok-merge", "-i", "-u", "admin2", "-R", "admin", "one.token", "admin2.sig").check(0)
    new = json.dumps(entry(quorum, "admin2"), indent=2).replace("\n", "\n    ").encode()
    assert quorum.read("one.token") == before.replace(b"\n    }\n  ]", b"\n    },\n    " + new + b"\n  ]")


def test_entry_in_its_slot(quorum: Shell) -> None:
    """The signature of the same user, in whatever case, and role is replaced; all else stays byte for byte."""
    mine = {"role": "admin", "x": [1.5], "username": "ADMIN2", "signature": "old", "y": {}}
    others = [entry(quorum, "admin3"), entry(quorum, "admin2", "crypto-user") | {"signature": "of the crypto user"}]
    approved(quorum, "one.token", others[0], mine, others[1])
    before = quorum.read("one.token")
    done = quorum.run("tok-merge", "-u", "admin2", "-R", "admin", "one.token", "admin2.sig").check(0)
    assert done.out == before.replace(b'"old"', f'"{signature(quorum, "admin2")}"'.encode())
    assert done.err == ""


def test_only_the_added_entry_is_verified(quorum: Shell) -> None:
    """With -p the added signature alone is verified: others' are theirs, and a wrong one is not written."""
    approved(
        quorum,
        "one.token",
        {"username": "admin1", "role": "admin", "signature": NOBODY},
        entry(quorum, "admin3", "crypto-user") | {"username": "admin2"},
    )
    words = ("tok-merge", "-o", "out", "-u", "admin2", "-R", "admin", "-p", "admin2.pub", "one.token")
    check_nothing_written(quorum, quorum.run(*words, "admin3.sig"), 1, "approver admin2: not made by the given key")
    quorum.run(*words, "admin2.sig").check(0)
    assert signatures(quorum.read("out"))[2] == entry(quorum, "admin2")


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
        ("-u admin2 f.json admin2.sig", "-u: only a quorum token has approvers"),
        ("--approvals f.json f.json", "--approvals: only a quorum token has approvers"),
        ("admin.token admin2.sig", "a quorum token, but no approver is named"),
        ("admin.token copy", "copy: a token file, not signatures"),
        ("-u admin2 admin.token copy", "copies of a quorum token come after --approvals"),
        ("f.json copy", "hint: FILE comes first, then its signatures"),
        ("f.json admin2.key", "hint: tok-extract FILE | tok-sign -k admin2.key | tok-merge -i FILE signs with this"),
        ("-R admin --approvals admin.token admin.token", "-R needs -u, the approver"),
        ("--approvals admin.token", "copies of the quorum token are missing"),
        ("--approvals admin.token missing.token", "missing.token: "),
        ("-u admin2 -R admin admin.token admin2.sig admin3.sig", "1 token but more than 1 signature"),
        ("-u admin2 -R admin admin.token admin2.pub", "admin2.pub: "),
        ("-u admin2 -R admin -n 2 admin.token admin2.sig", "-n"),
        ("-u admin2 -p admin2=missing.pub admin.token admin2.sig", "missing.pub: no such file"),
    ],
)
def test_options_that_do_not_fit(quorum: Shell, words: str, said: str) -> None:
    """Options for another kind of file, or that miss another, get one line, and nothing is written."""
    approved(quorum, "copy", entry(quorum, "admin2"))
    quorum.write("admin2.key", b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n")
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


def test_copies_that_are_verified(quorum: Shell) -> None:
    """Approvals are taken with -p only if all that are taken verify, each by the key of its approver."""
    for user in USERS:
        approved(quorum, f"{user}.token", entry(quorum, user))
    words = ["tok-merge", "-i", "--approvals", "admin.token", "admin2.token", "admin3.token", "-p", "admin2.pub"]
    check_nothing_written(quorum, quorum.run(*words), 1, "approver admin3: not made by the given key")
    crossed = quorum.run(*words[:-1], "admin2=admin3.pub", "-p", "admin3=admin2.pub")
    check_nothing_written(quorum, crossed, 1, "approver admin2: not made by the given key")
    assert quorum.run(*words[:-1], "admin2=admin2.pub", "-p", "admin3=admin3.pub").check(0).out == b""
    assert signatures(quorum.read("admin.token")) == [entry(quorum, user) for user in USERS]


def copy(shell: Shell, user: str, text: str, role: str = "admin") -> bytes:
    """Return a copy of AWS's token with one approval."""
    approved(shell, "copy", {"username": user, "role": role, "signature": text})
    return shell.read("copy")


@pytest.mark.parametrize("is_first", [True, False], ids=["wrong first", "wrong last"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: (AWS_QUORUM / "key-usage.token").read_bytes(), "this is a copy of another token"),
        (lambda shell: shell.read("registration.json"), "this is a file for quorum registration, not a copy"),
        (lambda _: TOKEN, "this copy has no approval"),
        (lambda shell: shell.read("admin2.sig"), "hint: --approvals takes copies of FILE; for a signature, use -u"),
        (lambda _: TOKEN.replace(b"0l2L", b"0l2M"), "do not sign it"),
        (lambda shell: copy(shell, "admin3", "x"), "approver admin3: not "),
        (lambda shell: copy(shell, "admin3", base64.b64encode(b"\xa5" * 255).decode()), "approver admin3: wrong size"),
        (lambda shell: copy(shell, "ADMIN2", NOBODY), "has two different entries"),
        (lambda shell: copy(shell, "admin3", signature(shell, "admin2")), "have the same signature"),
        (lambda shell: copy(shell, "admin3 ", NOBODY), 'approver "admin3 ": no CloudHSM user can have this name'),
        (lambda shell: copy(shell, "a", NOBODY, "owner"), 'approver a: the role "owner" is not admin or crypto-user'),
    ],
)
def test_wrong_copies(quorum: Shell, make: Any, said: str, is_first: bool) -> None:  # noqa: FBT001 - pytest gives it
    """A copy of something else, a broken one, and one that contradicts another are refused with all the rest."""
    approved(quorum, "good.token", entry(quorum, "admin2"))
    quorum.write("wrong.token", make(quorum))
    copies = ["wrong.token", "good.token"] if is_first else ["good.token", "wrong.token"]
    done = quorum.run("tok-merge", "-o", "out", "--approvals", "admin.token", *copies)
    check_nothing_written(quorum, done, 2, said)


@pytest.mark.parametrize("wrong", [{"username": "admin1 "}, {"role": "root"}])
def test_wrong_approvers_in_the_file_itself(quorum: Shell, wrong: dict[str, str]) -> None:
    """A name or a role that no user can have is refused in FILE as in a copy."""
    approved(quorum, "f.token", entry(quorum, "admin2") | wrong)
    approved(quorum, "good.token", entry(quorum, "admin3"))
    done = quorum.run("tok-merge", "-o", "out", "--approvals", "f.token", "good.token")
    check_nothing_written(quorum, done, 2, "f.token: approver ")


def test_slots_that_wait_for_a_signature(quorum: Shell) -> None:
    """An unsigned entry is filled by the approver's copy, and one in a copy takes nothing away."""
    unsigned = [entry(quorum, user) | {"signature": ""} for user in USERS]
    signed = [entry(quorum, user) for user in USERS]
    approved(quorum, "open.token", *unsigned)
    approved(quorum, "copy1.token", signed[0], unsigned[1])
    approved(quorum, "copy2.token", unsigned[0], signed[1])
    words = ("tok-merge", "--approvals", "-p", "admin2.pub", "-p", "admin3.pub", "open.token")
    for copies in (("copy1.token", "copy2.token"), ("copy2.token", "copy1.token")):
        assert signatures(quorum.run(*words, *copies).check(0).out) == signed


def test_a_role_that_comes_later(quorum: Shell) -> None:
    """An approver without a role is the one who comes with a role: the entry stands once, and has the role."""
    later = entry(quorum, "admin2")
    first = {name: text for name, text in later.items() if name != "role"}
    approved(quorum, "first.token", first)
    approved(quorum, "later.token", later)
    done = quorum.run("tok-merge", "-u", "ADMIN2", "-R", "admin", "first.token", "admin2.sig").check(0)
    assert [list(one.items()) for one in signatures(done.out)] == [list(later.items())]
    for copies in (["first.token", "later.token"], ["later.token", "first.token"]):
        done = quorum.run("tok-merge", "--approvals", "admin.token", *copies).check(0)
        assert signatures(done.out) == [later]
    quorum.run("tok-merge", "-u", "Admin2", "later.token", "admin2.sig").check(
        2, "later.token: approver Admin2 already has an entry with a role; nothing written", "hint: give the role"
    )


@pytest.mark.parametrize(
    "tool", [("tok-extract",), ("tok-merge", "-u", "admin2", "-R", "admin"), ("tok-verify", "-p", "admin2.pub")]
)
def test_nobody_signs_blind(quorum: Shell, tool: tuple[str, ...]) -> None:
    """A file that shows other bytes than those that are signed is refused by the tools that sign."""
    for name in ("admin.token", "registration.json"):
        blind = quorum.read(name).replace(b"AAEAAwAAABg", b"AAEAAwAAABk")
        assert quorum.write("blind", blind).read_bytes() != quorum.read(name)
        said = 'blind: token 1: the digest is not the SHA-256 of "approval_data"; do not sign it'
        assert quorum.run(*tool, "blind").check(2, said).out == b""
        quorum.write("broken", re.sub(rb'"AAEA[^"]*"', b'"?"', quorum.read(name)))
        assert quorum.run(*tool, "broken").check(2, 'broken: token 1: "approval_data": not canonical base64').out == b""


# --- tok-verify


@pytest.mark.parametrize(
    ("options", "status", "lines"),
    [
        ("-p ADMIN2=admin2.pub -p admin3.pub", 0, ["approver admin2: OK", "approver admin3: OK"]),
        ("-p ./a=b.pub -p admin3=a=3.pub", 0, ["approver admin2: OK", "approver admin3: OK"]),
        (
            "-p admin2=admin3.pub -p admin2.pub -p admin3.pub",
            1,
            ["approver admin2: FAILED: not made by the given key", "approver admin3: OK"],
        ),
        ("-p admin2.pub -p admin3.pub -p a4=admin2.pub --need 2 -q", 0, []),
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


@pytest.mark.parametrize("name", ["", "admin2: OK"])
def test_names_that_nobody_counts(quorum: Shell, name: str) -> None:
    """With --need, a name that no user can have is refused, for it might be a second name of an approver."""
    approved(quorum, "f.token", entry(quorum, "admin2"), entry(quorum, "admin3") | {"username": name})
    words = ("tok-verify", "-p", "admin2.pub", "-p", "admin3.pub", "f.token")
    done = quorum.run(*words, "--need", "2").check(2, 'f.token: approver "', '": no CloudHSM user can have this name')
    assert done.out == b""
    approved(quorum, "good.token", entry(quorum, "admin2"), entry(quorum, "admin3"))
    done = quorum.run(*words, "good.token", "--need", "2").check(2)  # the next file is verified all the same
    assert done.out.decode().splitlines()[-1] == "good.token: approvals: OK"
    assert quorum.run(*words).check(0).out.decode().splitlines()[1] == f'f.token: approver "{name}": OK'


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], "approvals: FAILED: 0 of 1"),
        ([{"username": "admin2", "signature": ""}], "approver admin2: FAILED: unsigned"),
        ([{"username": "a\u001b[2J", "signature": "?"}], r'approver "a\x1b[2J": FAILED: not base64'),
    ],
)
def test_no_good_approvals(quorum: Shell, entries: list[dict[str, str]], said: str) -> None:
    """A token that nobody approved is not OK, though nothing in it is wrong."""
    approved(quorum, "admin.token", *entries)
    done = quorum.run("tok-verify", "-p", "admin2.pub", "admin.token").check(1)
    assert f"admin.token: {said}" in done.out.decode().splitlines()

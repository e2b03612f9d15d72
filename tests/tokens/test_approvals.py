"""Approvals: names, roles, entries, and the keys that verify them."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import UNSIGNED, key_of, rsa_key

from toktools.errors import ToktoolsError
from toktools.tokens import approvals, merge, tokenfile, verify

DATA = b"a quorum token"


def entry(username: str, owner: str = "", role: str | None = "admin") -> dict[str, object]:
    """Return an approver's entry, signed with somebody's key or not at all."""
    signature = b64encode(key_of(owner).sign(sha256(DATA).digest())).decode() if owner else ""
    return {"username": username, **({} if role is None else {"role": role}), "signature": signature}


def quorum(*entries: dict[str, object]) -> tokenfile.TokenFile:
    token = {"approval_data": b64encode(DATA).decode(), "token": b64encode(sha256(DATA).digest()).decode()}
    return tokenfile.parse(json.dumps({"version": "2.0", **token, "signatures": entries}).encode())


@pytest.mark.parametrize("name", ["a", "A_1", "_", "7", "a" * 31])
def test_names(name: str) -> None:
    """A name has 1 to 31 letters, digits and underscores."""
    assert approvals.user("-u", name) == name
    assert approvals.shown_name(name) == name
    approvals.Approval(entry(name)).check()


@pytest.mark.parametrize("name", ["", "a" * 32, "a-b", "a b", "admin1 ", "\u00e9", "a\n", "\u0661", "\u212a"])
def test_names_that_no_user_can_have(name: str) -> None:
    """They are refused by name, and stand in quotes; the Kelvin sign is no k."""
    with pytest.raises(ToktoolsError, match=r"^-u: a CloudHSM user name has 1 to 31 letters, digits and underscores$"):
        approvals.user("-u", name)
    with pytest.raises(ToktoolsError, match=r'^approver "[ -~]*": no CloudHSM user can have this name$'):
        approvals.Approval(entry(name)).check()
    assert approvals.shown_name(name).startswith('"') == (name != "a-b")


def test_roles() -> None:
    """There are two; files of 2023 have none."""
    for spelled in (None, "admin", "crypto-user"):
        approvals.Approval(entry("a", role=spelled)).check()
    for role in ("", "Admin", "owner"):
        with pytest.raises(ToktoolsError, match=rf'^approver a: the role "{role}" is not admin or crypto-user$'):
            approvals.Approval(entry("a", role=role)).check()
    assert (approvals.shown_name("key-usage"), approvals.shown_name("key usage")) == ("key-usage", '"key usage"')


def test_whose_entry() -> None:
    """A user in any case of letters; a role that is not named may be any."""
    tokens = quorum(entry("A1"), entry("a1", role="crypto-user"), entry("a2", role=None))
    for user, role, index in (
        ("a1", "admin", 0),
        ("a1", "crypto-user", 1),
        ("a1", None, 0),
        ("a2", "admin", 2),
        ("a2", None, 2),
    ):
        assert tokens.find_approval(user, role) == index
    assert tokens.find_approval("a3", None) is None


def test_many_approvals(tmp_path: Path) -> None:
    """The work of putting approvals together grows with their number, and not with its square."""
    signatures = [b64encode(number.to_bytes(256, "big")).decode() for number in range(400)]

    def calls(count: int) -> int:
        entries = [{**entry(f"a{number}"), "signature": signatures[number]} for number in range(count)]
        tokens = quorum(*entries[::2])
        copy = tmp_path / f"{count}.token"
        copy.write_bytes(b"".join(quorum(*entries[1::2]).dump()))
        made = 0

        def count_call(_frame: object, event: str, _argument: object) -> None:
            nonlocal made
            made += event == "call"

        sys.setprofile(count_call)
        try:
            merge.check(tokens, merge.combine(tokens, [str(copy)]), None, print)
        finally:
            sys.setprofile(None)
        assert len(tokens.approvals) == count
        return made

    assert calls(400) < 3 * calls(200)


def test_whose_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """USER=PUB names an approver of a quorum token; a path or a URI may have = in it too."""
    monkeypatch.chdir(tmp_path)
    read_key: Any = str
    keys_of: Any = partial(verify.verify_keys, name="f", read_key=read_key)
    arguments = ["Admin=k", "admin=pkcs11:id=%01", "k", "a-b=c", "=", "pkcs11:token=a"]
    assert keys_of(arguments, quorum(entry("a1"))) == {
        "admin": ["k", "pkcs11:id=%01"],
        "": ["k", "a-b=c", "=", "pkcs11:token=a"],
    }
    login = tokenfile.parse(UNSIGNED.read_bytes())
    with pytest.raises(
        ToktoolsError, match=r"^f: -p USER=PUB is for the approvers of a quorum token, and this is a file for MFA"
    ):
        keys_of(["k", "admin=k"], login)
    (tmp_path / "admin=k").touch()
    assert keys_of(["admin=k", "k"], login) == {"": ["admin=k", "k"]}


def check(tokens: tokenfile.TokenFile, need: int | None, **keys: Any) -> list[tuple[str, str]]:
    """Check a quorum token with keys by approver, those of _ for everybody."""
    by_user = {
        "" if user == "_" else user: [rsa_key(owner).public_key() for owner in owners] for user, owners in keys.items()
    }
    return list(verify.check_all(tokens, by_user, need))


def test_one_key_for_one_approver() -> None:
    """An approval is good by a key of its approver, or by one for everybody; one key is not good for two."""
    tokens = quorum(entry("a1", "one"), entry("a2", "two"), entry("a3", "one"), entry("a4", "three"))
    assert check(tokens, 3, a1=["two", "one"], _=["one", "two"]) == [
        ("approver a1", ""),
        ("approver a2", ""),
        ("approver a3", "the same key as that of approver a1"),
        ("approver a4", "not made by any of the given keys"),
        ("approvals", "2 of 3"),
    ]
    assert check(quorum(entry("a1", "one")), None, a4=["three"]) == [
        ("approver a1", "no key is given"),
        ("approver a4", "no approval"),
    ]


def test_one_approver_counts_once() -> None:
    """In two roles, with two keys and in another case of letters, it is one approver."""
    tokens = quorum(entry("Admin1", "one"), entry("aDMIN1", "two", "crypto-user"), entry("ADMIN1", "three", None))
    results = check(tokens, 2, _=["one", "two", "three"])
    assert [problem for _, problem in results] == ["", "", "", "1 of 2"]

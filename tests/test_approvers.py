"""Who approves, and what the signed data seems to say, in this process: entries, copies, roles, records and labels."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, UNSIGNED

from toktools.errors import ToktoolsError
from toktools.tokens import approvaldata, approvers, owners, tokenfile, usernames

NONCE = b"n" * 16
ADMIN = approvaldata.record(3, 1, "admin", 1_700_000_000, NONCE)
KEY = approvaldata.record(5, 2, "cu", 1_700_000_000, NONCE, key_handle=6)
ADMIN_RECORD = approvaldata.Record(3, 1, 0, "admin", "2023-11-14T22:13:20Z")


def signature(char: str) -> str:
    return b64encode(bytes([0x80 | ord(char)]) * 256).decode()


def entry(username: str, char: str = "", role: str | None = "admin") -> dict[str, str]:
    of_role = {} if role is None else {"role": role}
    return {"username": username, **of_role, "signature": signature(char) if char else ""}


def quorum(*entries: dict[str, str], what: bytes = ADMIN) -> tokenfile.TokenFile:
    content: dict[str, Any] = {"version": "2.0", "service": "user-management"}
    content["approval_data"] = b64encode(what).decode()
    content["token"] = b64encode(sha256(what).digest()).decode()
    return tokenfile.parse(json.dumps({**content, "signatures": entries}).encode())


def test_names() -> None:
    """A name has 1 to 31 letters, digits and underscores; a role is one of two."""
    for name in ("a", "A_1", "_", "a" * 31):
        assert usernames.is_user(name)
        assert approvers.user("-u", name) == name
        assert usernames.word(name) == usernames.shown_user(name) == name
    for name in ("", "a" * 32, "a-b", "a b", "ä", "a\n"):
        assert not usernames.is_user(name)
        with pytest.raises(ToktoolsError, match=r"^-u: a CloudHSM user name has 1 to 31 letters, digits and under"):
            approvers.user("-u", name)
        assert usernames.shown_user(name).startswith('"')
    assert (usernames.word("key-usage"), usernames.word("key usage")) == ("key-usage", '"key usage"')
    assert [approvers.role("-R", role) for role in ("admin", "crypto-user")] == ["admin", "crypto-user"]
    with pytest.raises(ToktoolsError, match=r"^-R: a role must be admin or crypto-user$"):
        approvers.role("-R", "Admin")


def test_an_entry() -> None:
    """Its members stand as the CLI has them, and the role may be left out."""
    made = approvers.entry("admin2", "admin", b"\xe1" * 256)
    assert list(made.items()) == list(entry("admin2", "a").items())
    assert approvers.entry("admin2", None, b"\xe1" * 256) == entry("admin2", "a", None)


def test_roles() -> None:
    """Of a user in any case of letters; of that one alone, and only where a role is named."""
    token = quorum(entry("Admin2", "a"), entry("admin3", "b", None))
    assert [approvers.has_role(token, name) for name in ("admin2", "ADMIN2", "admin3", "admin4")] == [
        *(True, True, False, False)
    ]


def test_copies_of_a_token() -> None:
    """What a copy has and the token has not is taken; what both have the same is left; empty places are passed by."""
    token = quorum(entry("a1", "a"), entry("a2"))
    filled = approvers.combine(token, quorum(entry("A1", "a"), entry("a2", "b"), entry("a4"), entry("a3", "c")))
    assert [token.approvals[index].username for index in filled] == ["a2", "a3"]
    assert [approval.signature for approval in token.approvals] == [signature(char) for char in "abc"]


@pytest.mark.parametrize(
    ("copy", "said"),
    [
        (lambda: quorum(entry("a1", "a"), what=KEY), "this is a copy of another token"),
        (lambda: quorum(entry("a1")), "this copy has no approval"),
        (quorum, "this copy has no approval"),
        (lambda: quorum(entry("a1", "b")), "approver a1 has two different entries"),
        (lambda: quorum(entry("a 1", "b")), 'approver "a 1" has two different entries'),
        (lambda: quorum({**entry("a2"), "signature": "AA=="}), "approver a2: wrong size: 1 byte"),
        (lambda: quorum({**entry("a\n2"), "signature": "AA=="}), r'approver "a\n2": wrong size: 1 byte'),
    ],
)
def test_copies_that_do_not_fit(copy: Any, said: str) -> None:
    """They are refused by name."""
    with pytest.raises(ToktoolsError) as raised:
        approvers.combine(quorum(entry("a1", "a"), entry("a 1", "a")), copy())
    assert raised.value.message.startswith(said)


def test_records() -> None:
    """Whole records are read; anything else is none."""
    assert (ADMIN[:8], len(ADMIN)) == (b"\0\2\0\3\0\0\0\1", 80)
    assert approvaldata.records(ADMIN * 2) == [ADMIN_RECORD] * 2
    assert approvaldata.records(KEY) == [approvaldata.Record(5, 2, 6, "cu", "2023-11-14T22:13:20Z")]
    assert [approvaldata.records(content) for content in (b"", ADMIN[:-1], ADMIN + b"\0", b"x" * 40)] == [[]] * 4
    odd = approvaldata.record(1, 1, "\xe4", 1 << 62, NONCE)
    assert [(one.requester, one.time) for one in approvaldata.records(odd)] == [("\xe4", str(1 << 62))]
    (broken,) = approvaldata.records(ADMIN.replace(b"admin", b"ad\xffin"))
    assert broken.requester == "ad\ufffdin"


@pytest.mark.parametrize("error", [OverflowError, OSError, ValueError])
def test_times_that_a_system_does_not_have(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """Then the number is shown, whatever the system says of it."""

    class Clock:
        @staticmethod
        def fromtimestamp(*_: object) -> None:
            raise error

    monkeypatch.setattr(approvaldata, "datetime", Clock)
    assert approvaldata.records(ADMIN)[0].time == "1700000000"


@pytest.mark.parametrize(
    ("label", "key", "content", "said"),
    [
        ("user-management", None, ADMIN, []),
        ("key-usage", "0x0000000000000006", KEY, []),
        ("key-usage", "0X0000000000000006", KEY, []),
        (None, None, ADMIN, []),
        ("other", None, approvaldata.record(9, 1, "a", 0, NONCE), []),
        ("key-usage", None, ADMIN, ["the label says key-usage, the signed data service 3, as user-management has it"]),
        ("a b", None, ADMIN, ['the label says "a b", the signed data service 3, as user-management has it']),
        (
            "key-usage",
            None,
            approvaldata.record(9, 1, "a", 0, NONCE),
            ["the label says key-usage, the signed data service 9, where key-usage has 5"],
        ),
        ("key-usage", None, KEY, ["no label names a key, the signed data 0x0000000000000006"]),
        ("key-usage", "0x7", KEY, ["the label says key 0x7, the signed data 0x0000000000000006"]),
        ("user-management", "0x7", ADMIN, ["the label says key 0x7, the signed data 0x0000000000000000"]),
        (
            "user-management",
            None,
            ADMIN + approvaldata.record(3, 1, "b", 0, NONCE),
            ["the signed data has 2 requesters"],
        ),
    ],
)
def test_labels(label: object, key: object, content: bytes, said: list[str]) -> None:
    """Labels, which are not signed, are held against what is."""
    assert approvaldata.contradictions(label, key, approvaldata.records(content)) == said


def test_the_published_samples() -> None:
    """Their labels and records agree."""
    samples = sorted((ROOT / "examples" / "aws-quorum").glob("*.token"))
    assert samples
    for sample in samples:
        content = json.loads(sample.read_bytes())
        token = tokenfile.parse(sample.read_bytes())
        assert not approvers.has_role(token, "nobody")
        found = approvaldata.records(b64decode(content["approval_data"]))
        assert approvaldata.contradictions(content.get("service"), content.get("key_reference"), found) == []


def test_whose_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """USER=PUB names an approver of a quorum token; a path may have = in it too, and each file is read once."""
    monkeypatch.chdir(tmp_path)
    read: list[str] = []

    def read_key(path: str) -> str:
        read.append(path)
        return path

    monkeypatch.setattr(owners, "read_public_key", read_key)
    token = quorum(entry("a1"))
    given: Any = owners.Given(["Admin=k", "admin=l", "k", "a-b=c", "="])
    for _ in range(2):
        assert given.keys(token, "f") == {"admin": ["k", "l"], "": ["k", "a-b=c", "="]}
    assert read == ["k", "l", "a-b=c", "="]
    login = tokenfile.parse(UNSIGNED.read_bytes())
    with pytest.raises(
        ToktoolsError, match=r"^f: -p admin=k: USER=PUB is for the approvers of a quorum token, which this"
    ):
        owners.Given(["admin=k"]).keys(login, "f")
    (tmp_path / "admin=k").touch()
    given = owners.Given(["admin=k", "k", "pub"])
    assert given.keys(login, "f") == {"": ["admin=k", "k", "pub"]}


def test_one_key_for_one_approver(monkeypatch: pytest.MonkeyPatch) -> None:
    """An approval is good by a key of its approver, or of nobody's name; the same key twice is not."""

    class Key:
        def __init__(self, n: int) -> None:
            self.n = n

        def public_numbers(self) -> Key:
            return self

    class Verifier:
        def __init__(self, given: list[Key], _digests: object) -> None:
            self.given = given

        def fault(self, index: int, text: str) -> str:
            assert index == 0  # a quorum token has one digest
            return "" if text in [signature("abc"[key.n]) for key in self.given] else "not made by it"

    monkeypatch.setattr(owners, "Verifier", Verifier)
    one, two, three = (Key(n) for n in range(3))
    token = quorum(entry("a1", "a"), entry("a2", "b"), entry("a3", "a"), entry("a4", "c"))
    places = token.places()
    told = owners.Approvals(token, {"a1": [two, one], "": [one, two]})  # type: ignore[list-item]
    assert [told.fault(place) for place in places] == ["", "", "the same key as that of approver a1", "not made by it"]
    assert told.approved == {"a1", "a2"}
    told = owners.Approvals(token, {"a4": [three]})  # type: ignore[list-item]
    assert [told.fault(place) for place in places] == ["no key is given"] * 3 + [""]
    assert told.approved == {"a4"}


def test_what_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a quorum token each approval by its approver; elsewhere each signature by its own digest."""
    asked: list[tuple[int, str]] = []

    class Verifier:
        def __init__(self, given: object, digests: object) -> None:
            assert given == ("key",)
            assert len(list(digests)) == 3  # type: ignore[call-overload]

        def fault(self, index: int, text: str) -> str:
            asked.append((index, text))
            return "no"

    monkeypatch.setattr(owners, "Verifier", Verifier)
    login = tokenfile.parse(UNSIGNED.read_bytes())
    judge = owners.judge(login, {"": ("key",)})  # type: ignore[dict-item]
    assert [judge(place) for place in login.places()] == ["no"] * 3
    assert asked == [(0, ""), (1, ""), (2, "")]
    token = quorum(entry("a1", "a"))
    assert owners.judge(token, {})(token.places()[0]) == "no key is given"

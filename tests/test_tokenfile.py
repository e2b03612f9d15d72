"""The shapes of token files: strict in, faithful out."""

import base64
import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from conftest import ROOT, SIGNED, UNSIGNED

from toktools.errors import ToktoolsError
from toktools.system import files
from toktools.tokens import tokenfile

DIGEST = base64.b64encode(bytes(32)).decode()
SIGNATURE = base64.b64encode(bytes(256)).decode()
TOKEN = f'{{"unsigned": "{DIGEST}", "signed": ""}}'
APPROVAL_DATA = base64.b64encode(b"what is approved").decode()
APPROVED = base64.b64encode(hashlib.sha256(b"what is approved").digest()).decode()
REGISTRATION = f'{{"approval_data": "{APPROVAL_DATA}", "unsigned": "{APPROVED}", "signed": ""}}'
ENTRY = '{"username": "admin2", "role": "admin", "signature": ""}'
AUTHDATA_ENTRY = f'{{"HsmId": "hsm-lgavqitns2a", "Digest": "{DIGEST}", "Signature": ""}}'
SAMPLES = sorted((ROOT / "examples" / "aws-quorum").glob("*.token"))


def mfa_file(tokens: str = TOKEN, *, top: str = '"version": "2.0"', more: str = "") -> bytes:
    """Return an MFA token file with these entries, top-level members before them, and more after them."""
    return f'{{{top}, "tokens": [{tokens}]{more}}}'.encode()


def quorum_token(
    signatures: str = "[]", *, top: str = '"version": "2.0"', shown: str = APPROVAL_DATA, digest: str = APPROVED
) -> bytes:
    """Return a quorum token with these approvals, and top-level members before the rest."""
    return f'{{{top}, "approval_data": "{shown}", "token": "{digest}", "signatures": {signatures}}}'.encode()


def authdata(entries: str = f"{AUTHDATA_ENTRY}, {AUTHDATA_ENTRY}", *, top: str = '"Version": "1.0"') -> bytes:
    """Return authdata of the CMU with these entries, which all have one HsmId as in AWS's sample."""
    return f'{{{top}, "PublicKey": "", "Data": [{entries}]}}'.encode()


KINDS = {
    "mfa": (mfa_file(), "mfa", 1),
    "mfa of three": (mfa_file(f"{TOKEN}, {TOKEN}, {TOKEN}"), "mfa", 3),
    "registration": (mfa_file(REGISTRATION), "quorum-registration", 1),
    "registration of two": (
        mfa_file(f"{REGISTRATION}, {REGISTRATION}", more=f', "signatures": [{ENTRY}]'),
        "quorum-registration",
        2,
    ),
    "user token": (quorum_token(top='"version": "2.0", "service": "user-management"'), "quorum-token", 1),
    "key token": (
        quorum_token(
            f"[{ENTRY}]", top='"version": "2.0", "service": "key-usage", "key_reference": "0x0000000000680006"'
        ),
        "quorum-token",
        1,
    ),
    "token of 2023": (quorum_token('[{"username": "admin", "signature": ""}]'), "quorum-token", 1),
    "authdata": (authdata(), "authdata", 2),
}
"""A file of each shape, its kind, and how many digests it has."""


def laid_out(extra: str) -> bytes:
    """Return an MFA token file as the CloudHSM CLI lays it out, with one more member at the top and in the entry."""
    token = f'    {{\n      "note": {extra},\n      "unsigned": "{DIGEST}",\n      "signed": ""\n    }}\n'
    return f'{{\n  "zulu": {extra},\n  "version": "2.0",\n  "tokens": [\n{token}  ]\n}}\n'.encode()


def refusal(text: bytes) -> ToktoolsError:
    """Return the error that a file is refused with."""
    with pytest.raises(ToktoolsError) as caught:
        tokenfile.parse(text)
    assert caught.value.status == 2
    assert caught.value.message.isprintable()
    return caught.value


@pytest.mark.parametrize("path", [UNSIGNED, SIGNED, *SAMPLES], ids=lambda path: path.stem)
def test_published_files_come_out_as_they_were(path: Path) -> None:
    """AWS's own files are dumped byte for byte, and show what is signed."""
    tokens = tokenfile.parse(path.read_bytes())
    assert len(tokens.digests) == (1 if path in SAMPLES else 3)
    assert len(SAMPLES) == 3
    assert len(tokens.approval_data) == (path in SAMPLES)
    tokens.refuse_blind()
    assert tokens.dump() == path.read_bytes()


def test_one_signature_is_the_only_difference() -> None:
    """A signature that is put in changes its own line and no other."""
    tokens = tokenfile.parse(UNSIGNED.read_bytes())
    tokens.put(1, bytes(256))
    assert [tokens.signed(index) for index in range(3)] == ["", SIGNATURE, ""]
    before, after = UNSIGNED.read_bytes().splitlines(), tokens.dump().splitlines()
    changed = [(old, new) for old, new in zip(before, after) if old != new]
    assert changed == [(b'      "signed": ""', f'      "signed": "{SIGNATURE}"'.encode())]


@pytest.mark.parametrize(
    "extra",
    [
        *("0", "-0", "-0.0", "1.10", "1E5", "1e+05", "1.0E-400", "9007199254740993"),
        *("123456789012345678901234567890", "-18446744073709551617", "3.14159265358979323846264338327950288"),
        *("true", "false", "null", "[]", "{}", '""', r'"\u0000\u001f\"\\"', '"\u00e9\u2028\U0001f600"'),
        '{\n    "z": 1,\n    "a": [\n      2.50\n    ]\n  }',
    ],
)
def test_unknown_members_survive(extra: str) -> None:
    """Members that no shape knows keep their order and value, and numbers their very digits."""
    text = laid_out(extra)
    tokens = tokenfile.parse(text)
    assert tokens.dump() == text
    tokens.put(0, bytes(256))
    assert tokens.dump() == text.replace(b'"signed": ""', f'"signed": "{SIGNATURE}"'.encode())


@pytest.mark.parametrize("escaped", [r'"\u00e9"', r'"\/"', r'"\ud83d\ude00"', r'"\u0041\b\t"', r'"\u202e\u007f"'])
def test_escapes_stay(escaped: str) -> None:
    """A string keeps the spelling that it has."""
    assert tokenfile.parse(laid_out(escaped)).dump() == laid_out(escaped)


def test_other_layouts_are_read() -> None:
    """White space is nobody's business: a file on one line, or with CR LF, holds the same digests."""
    on_one_line = json.dumps(json.loads(UNSIGNED.read_bytes())).encode()
    with_cr = UNSIGNED.read_bytes().replace(b"\n", b"\r\n")
    expected = tokenfile.parse(UNSIGNED.read_bytes())
    for text in (on_one_line, with_cr, b"\n\n" + on_one_line + b"\n"):
        tokens = tokenfile.parse(text)
        assert (tokens.digests, tokens.dump()) == (expected.digests, text)


def test_stray_brace_of_the_set_up_page() -> None:
    """AWS's set-up page prints a sample with one brace too many, and the message shows where it is."""
    text = UNSIGNED.read_bytes().replace(b'"tokens": [\n    {\n', b'"tokens": [\n    {\n      {\n', 1)
    assert text != UNSIGNED.read_bytes()
    assert refusal(text).message.startswith("not JSON: line 5, column 7: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "an empty file"),
        (b" \r\n\t", "an empty file"),
        (b"not JSON", "not JSON: line 1, column "),
        (UNSIGNED.read_bytes()[:-3], "not JSON: line "),
        (UNSIGNED.read_bytes() + b"{}", "not JSON: line 18, column 1: "),
        (mfa_file() + mfa_file(), "not JSON: line 1, column "),
        (mfa_file(more=","), "not JSON: line 1, column "),
        (mfa_file(f"{TOKEN},"), "not JSON: line 1, column "),
        (mfa_file(more=', "x": NaN'), "not JSON: line 1, column "),
        (mfa_file(more=', "x": Infinity'), "not JSON: line 1, column "),
        (mfa_file(more=', "x": 01'), "not JSON: line 1, column "),
        (mfa_file(more=', "x": .5'), "not JSON: line 1, column "),
        (mfa_file(more=', "x": "\t"'), "not JSON: line 1, column "),
        (mfa_file(more=r', "x": "\ud800"'), "not JSON: line 1, column "),
        (mfa_file(more=", 'x': 1"), "not JSON: line 1, column "),
        (b"// why\n" + mfa_file(), "not JSON: line 1, column 1: "),
        (mfa_file() + b"\0", "not JSON: line 1, column "),
        (mfa_file() + b"\x1a", "not JSON: line 1, column "),
        (b"[]", "not a JSON object"),
        (b"2.0", "not a JSON object"),
        (b'"tokens"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{ \0}", "not JSON: line 1, column "),
        (b"{}", 'not a token file: no member "tokens" or "token" or "Data"'),
        (b'{"version": "2.0"}', 'no member "tokens"'),
    ],
)
def test_not_a_token_file(text: bytes, said: str) -> None:
    """What is not one JSON object with tokens is refused, with line and column where it is not JSON."""
    assert said in refusal(text).message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (mfa_file(more=', "x": "\xff"').replace(b"\xc3\xbf", b"\xff"), 1),
        (b"\x80" + mfa_file(), 1),
        (b'\n{"x": "\xff"}\n', 2),
        (b'{\n"x":\n"\xff"\n}', 3),
    ],
)
def test_not_utf_8(text: bytes, line: int) -> None:
    """Bytes that are not UTF-8 are refused as what they are, with their line."""
    assert refusal(text).message == f"not JSON: line {line}: not UTF-8"


@pytest.mark.parametrize(
    ("mark", "encoding", "kind"),
    [
        (b"", "utf-8-sig", "a byte-order mark"),
        (b"\xff\xfe", "utf-16-le", "UTF-16"),
        (b"\xfe\xff", "utf-16-be", "UTF-16"),
        (b"", "utf-16-le", "UTF-16"),
        (b"", "utf-16-be", "UTF-16"),
        (b"", "utf-32", "UTF-16"),
    ],
)
def test_powershell(mark: bytes, encoding: str, kind: str) -> None:
    """A byte-order mark or UTF-16, which PowerShell writes, is refused with a hint."""
    error = refusal(mark + UNSIGNED.read_text().encode(encoding))
    assert error.message == f"{kind}, but plain UTF-8 is needed"
    assert "PowerShell" in error.hint


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (mfa_file(top='"version": "2.0", "version": "2.0"'), "version"),
        (mfa_file(top='"version": "1.0", "v\\u0065rsion": "2.0"'), "version"),
        (mfa_file(more=', "tokens": []'), "tokens"),
        (mfa_file(f'{{"unsigned": "{DIGEST}", "unsigned": "{DIGEST}", "signed": ""}}'), "unsigned"),
        (mfa_file(more=', "x": [[{"y": {"z": 1, "z": 1}}]]'), "z"),
        (mfa_file(more=', "x": {"": 1, "": 2}'), ""),
        (mfa_file(more=', "x": {"\\u001b[2J": 1, "\\u001b[2J": 2}'), r"\x1b[2J"),
        (mfa_file(more=', "x": {"\x9b\u202e": 1, "\x9b\u202e": 2}'), r"\x9b\u202e"),
    ],
)
def test_member_that_is_there_twice(text: bytes, name: str) -> None:
    """A member name that occurs twice in one object, at any depth, is refused and shown without its controls."""
    assert refusal(text).message == f'the member "{name}" occurs twice in one object'


def test_same_name_in_two_objects() -> None:
    """A member name may come again in another object."""
    assert len(tokenfile.parse(mfa_file(f"{TOKEN}, {TOKEN}", more=', "x": {"tokens": {"x": 1}}')).digests) == 2


def test_twice_among_many() -> None:
    """A member that is there twice is found as soon among many names as among few."""
    names = ", ".join(f'"{number}": 0' for number in [*range(20_000), 19_999])
    start = time.process_time()
    assert '"19999"' in refusal(mfa_file(more=f', "x": {{{names}}}')).message
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ('"version": "1.0"', 'unknown "version": "1.0"; toktools knows "2.0"'),
        ('"version": "2.0.0"', 'unknown "version": "2.0.0"'),
        ('"version": 2.0', 'unknown "version": 2.0;'),
        ('"version": 2', 'unknown "version": 2;'),
        ('"version": ""', 'unknown "version": ""'),
        ('"version": null', 'unknown "version": null'),
        ('"version": ["2.0"]', 'unknown "version": ['),
        ('"version": "\\u001b[2J\x9b"', r"\x9b"),
        ('"version": ["\x9b"]', r'unknown "version": ["\u009b"]'),
        (f'"version": "{"9" * 38}"', f'unknown "version": "{"9" * 38}";'),
        (f'"version": "{"9" * 39}"', f'unknown "version": "{"9" * 39}...;'),
        (f'"version": "{"9" * 10_000}"', f'unknown "version": "{"9" * 39}...;'),
        ('"Version": "2.0"', 'no member "version"'),
        ('"x": "2.0"', 'no member "version"'),
    ],
)
def test_version(top: str, said: str) -> None:
    """A version that is not known, not a string or not there is refused, and shown cut short."""
    assert said in refusal(mfa_file(top=top)).message


@pytest.mark.parametrize(("text", "kind", "count"), KINDS.values(), ids=KINDS)
def test_kinds(text: bytes, kind: str, count: int) -> None:
    """A file of each shape is known by its members, its digests are listed, and it shows what is signed."""
    tokens = tokenfile.parse(text)
    tokens.refuse_blind()
    assert (tokens.shape.kind, len(tokens.digests)) == (kind, count)
    assert {base64.b64encode(digest).decode() for digest in tokens.digests} <= {DIGEST, APPROVED}
    assert bool(tokens.approval_data) == ("approval_data" in json.loads(text) or "registration" in kind)


@pytest.mark.parametrize("name", ["mfa of three", "registration of two", "authdata"])
def test_signature_goes_into_its_own_entry(name: str) -> None:
    """A token's signature goes into its own entry and changes nothing else, though HsmIds or digests are equal."""
    text, _, count = KINDS[name]
    tokens = tokenfile.parse(text)
    tokens.put(count - 1, bytes(256))
    expected = json.loads(text)
    expected[tokens.shape.entries][count - 1][tokens.shape.signature] = SIGNATURE
    assert json.dumps(json.loads(tokens.dump())) == json.dumps(expected)
    assert [place.text for place in tokens.places()] == [*[""] * (count - 1), SIGNATURE]
    assert [place.name for place in tokens.places()] == [f"token {number}" for number in range(1, count + 1)]


@pytest.mark.parametrize("name", ["user token", "key token", "token of 2023"])
def test_approval_goes_after_the_others(name: str) -> None:
    """An approver's entry is added after those that are there, and nothing else changes."""
    text = KINDS[name][0]
    tokens = tokenfile.parse(text)
    new = {"username": "admin3", "role": "admin", "signature": SIGNATURE}
    tokens.approve(dict(new))
    expected = json.loads(text)
    expected["signatures"].append(new)
    assert json.dumps(json.loads(tokens.dump())) == json.dumps(expected)
    place = tokens.places()[-1]
    assert (place.name, place.index, place.text, place.signs) == ("approver admin3", 0, SIGNATURE, "admin3")


def test_public_key_goes_into_its_place() -> None:
    """The public key of authdata is a member of its own, and nothing else changes."""
    tokens = tokenfile.parse(authdata())
    tokens.put_public_key("a key")
    assert tokens.dump() == authdata().replace(b'"PublicKey": ""', b'"PublicKey": "a key"')


@pytest.mark.parametrize(("text", "kind"), [(mfa_file(), "an MFA login or set-up"), (authdata(), "a CMU authdata")])
def test_no_approval_data(text: bytes, kind: str) -> None:
    """A file of a kind that does not show what was hashed says so."""
    with pytest.raises(ToktoolsError, match=f"^f: {kind} file has no approval data$"):
        tokenfile.parse(text).hashed("f")


@pytest.mark.parametrize("name", KINDS)
def test_unknown_members_of_every_kind_survive(name: str) -> None:
    """Members that no shape knows stay where they are at every level of every kind, and so does their value."""
    extra = b'"zulu": {"b": [1.10, -0], "a": null}, '
    text = KINDS[name][0].replace(b"{", b"{" + extra)
    tokens = tokenfile.parse(text)
    assert text.count(b'"zulu"') == KINDS[name][0].count(b"{")
    assert tokens.shape.kind == KINDS[name][1]
    assert tokens.dump() == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((mfa_file(REGISTRATION, top=f'"version": "{v}"'), f'unknown "version": "{v}"') for v in ("1.0", "3.0")),
        *((quorum_token(top=f'"version": "{v}"'), f'unknown "version": "{v}"') for v in ("1.0", "2.1")),
        (authdata(top='"Version": "2.0"'), 'unknown "Version": "2.0"; toktools knows "1.0"'),
        (authdata(top='"Version": 1.0'), 'unknown "Version": 1.0'),
        (authdata(top='"version": "2.0"'), 'no member "Version"'),
        (quorum_token(top='"Version": "1.0"'), 'no member "version"'),
        (quorum_token(top='"version": "2.0", "tokens": []'), '"tokens" and "token" are members of different kinds'),
        (quorum_token(top='"version": "2.0", "Data": []'), "members of different kinds"),
        (authdata(top='"Version": "1.0", "tokens": []'), "members of different kinds"),
        (authdata(""), '"Data" contains no tokens'),
        (b'{"Version": "1.0", "Data": {}}', '"Data" contains no tokens'),
        (authdata('"x"'), "token 1: not a JSON object"),
        (authdata(f'{{"approval_data": "", {AUTHDATA_ENTRY[1:]}'), "token 1: of no known kind"),
        (authdata('{"Signature": ""}'), 'token 1: no member "Digest"'),
        (authdata(f'{AUTHDATA_ENTRY}, {{"Digest": "{DIGEST}"}}'), 'token 2: no member "Signature"'),
        (authdata(f'{{"Digest": "{DIGEST}", "Signature": null}}'), 'token 1: "Signature" is not a string'),
        (authdata('{"Digest": "QUJD", "Signature": ""}'), 'token 1: "Digest": 3 bytes'),
        (mfa_file(REGISTRATION.replace('"signed"', '"x"')), 'token 1: no member "signed"'),
        (mfa_file(REGISTRATION.replace(f'"{APPROVAL_DATA}"', "null")), '"approval_data" is not a string'),
        (b'{"version": "2.0", "token": "%s", "signatures": []}' % APPROVED.encode(), 'no member "approval_data"'),
        (b'{"version": "2.0", "approval_data": "QUJD", "signatures": []}', 'no member "token"'),
        (quorum_token(digest="QUJD"), '"token": 3 bytes'),
        *((quorum_token(wrong), 'no list "signatures"') for wrong in ("{}", "null", '"x"', "1")),
        (b'{"version": "2.0", "approval_data": "QUJD", "token": "%s"}' % APPROVED.encode(), 'no list "signatures"'),
        *((quorum_token(f"[{ENTRY}, {wrong}]"), "approval 2: ") for wrong in ("null", '"x"', "[]", "1")),
        (quorum_token(f"[{ENTRY}, {ENTRY.replace('admin2', 'Admin2')}]"), "approver Admin2 has two entries"),
        (quorum_token(f"[{', '.join([ENTRY.replace('admin2', 'a: OK')] * 2)}]"), 'approver "a: OK" has two entries'),
        (quorum_token("[{}]"), 'approval 1: no member "username"'),
        (quorum_token('[{"username": "admin2"}]'), 'approval 1: no member "signature"'),
        *(
            (quorum_token(f"[{ENTRY}, {ENTRY.replace(old, 'null')}]"), f'approval 2: "{name}" is not a string')
            for name, old in (("username", '"admin2"'), ("role", '"admin"'), ("signature", '""'))
        ),
    ],
)
def test_broken_neighbours(text: bytes, said: str) -> None:
    """A file that is almost of a kind is refused with the member or the entry that is wrong."""
    assert said in refusal(text).message


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("", '"approval_data": empty'),
        ("?", '"approval_data": not base64'),
        (f"{APPROVAL_DATA[:8]}\\n{APPROVAL_DATA[8:]}", '"approval_data": white space in the base64'),
        (APPROVAL_DATA.rstrip("="), '"approval_data": not canonical base64'),
        (DIGEST, 'the digest is not the SHA-256 of "approval_data"; do not sign it'),
        (APPROVED, 'the digest is not the SHA-256 of "approval_data"; do not sign it'),
    ],
)
def test_nobody_signs_blind(shown: str, said: str) -> None:
    """Approval data that is not what was hashed is refused with the number of its token."""
    registration = mfa_file(f"{REGISTRATION}, {REGISTRATION.replace(APPROVAL_DATA, shown)}")
    for text, number in ((quorum_token(shown=shown), 1), (registration, 2)):
        with pytest.raises(ToktoolsError) as caught:
            tokenfile.parse(text).refuse_blind()
        assert caught.value.message == f"token {number}: {said}"


def test_examples_of_the_manual() -> None:
    """Each example of tok-file(5) is of the kind its subsection names, dumps to itself, and shows what is signed."""
    found = []
    for section in (ROOT / "man" / "tok-file.5").read_text().split(".Ss ")[1:]:
        title, _, rest = section.partition("\n")
        for block in rest.split(".Bd ")[1:]:
            example = block.partition("\n")[2].partition(".Ed\n")[0].encode()
            tokens = tokenfile.parse(example)
            tokens.refuse_blind()
            assert (tokens.shape.title.lower(), tokens.dump()) == (title.lower(), example)
            found.append(title.lower())
    assert found == ["mfa login or set-up", "quorum registration", *["quorum token"] * 3, "cmu authdata"]
    assert list(dict.fromkeys(found)) == [shape.title.lower() for shape in tokenfile.SHAPES]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (mfa_file(f"{TOKEN}, {REGISTRATION}"), "tokens of different kinds"),
        (mfa_file(f"{REGISTRATION}, {TOKEN}"), "tokens of different kinds"),
        (mfa_file(more=f', "token": "{DIGEST}"'), '"tokens" and "token" are members of different kinds'),
        (mfa_file(more=', "approval_data": "AAAA"'), '"tokens" and "approval_data" are members of different kinds'),
        (mfa_file(more=', "Data": []'), '"tokens" and "Data" are members of different kinds'),
        (mfa_file(""), '"tokens" contains no tokens'),
        (b'{"version": "2.0", "tokens": {}}', '"tokens" contains no tokens'),
        (b'{"version": "2.0", "tokens": null}', '"tokens" contains no tokens'),
        (b'{"version": "2.0", "tokens": 3}', '"tokens" contains no tokens'),
        (b'{"version": "2.0", "tokens": "x"}', '"tokens" contains no tokens'),
        (mfa_file(f"{TOKEN}, null"), "token 2: not a JSON object"),
        (mfa_file(f'"{DIGEST}"'), "token 1: not a JSON object"),
        (mfa_file("{}"), 'token 1: no member "unsigned"'),
        (mfa_file(f'{{"unsigned": "{DIGEST}"}}'), 'token 1: no member "signed"'),
        (mfa_file(f'{TOKEN}, {{"signed": ""}}'), 'token 2: no member "unsigned"'),
        (mfa_file('{"unsigned": 1, "signed": ""}'), 'token 1: "unsigned" is not a string'),
        (mfa_file('{"unsigned": null, "signed": ""}'), 'token 1: "unsigned" is not a string'),
        (mfa_file(f'{{"unsigned": "{DIGEST}", "signed": null}}'), 'token 1: "signed" is not a string'),
        (mfa_file(f'{{"unsigned": "{DIGEST}", "signed": ["{SIGNATURE}"]}}'), 'token 1: "signed" is not a string'),
    ],
)
def test_wrong_tokens(text: bytes, said: str) -> None:
    """Mixed kinds, no tokens, and entries without their members are refused, with the token's number."""
    assert said in refusal(text).message


@pytest.mark.parametrize(
    ("digest", "said"),
    [
        (base64.b64encode(bytes(31)).decode(), "31 bytes, but a SHA-256 digest has 32"),
        (base64.b64encode(bytes(33)).decode(), "33 bytes, but a SHA-256 digest has 32"),
        ("ab" * 32, "hexadecimal digits, not base64"),
        ("", "empty"),
        (DIGEST[:-1], "not canonical base64"),
        (DIGEST.replace("A=", "B="), "not canonical base64"),
        (DIGEST + "\\n", "white space in the base64"),
        ("\u0410" + DIGEST[1:], "not base64"),
        (DIGEST.replace("A", "-"), "base64url, not base64"),
    ],
)
def test_wrong_digest(digest: str, said: str) -> None:
    """A digest that is not canonical base64 of 32 bytes is refused with its place."""
    error = refusal(mfa_file(f'{TOKEN}, {{"unsigned": "{digest}", "signed": ""}}'))
    assert error.message == f'token 2: "unsigned": {said}'


@pytest.mark.parametrize("depth", [260, 300, 900, 1_100, 5_000, 500_000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"x":', "}")], ids=["arrays", "objects"])
def test_deep_nesting(depth: int, left: str, right: str) -> None:
    """A file that is nested too deeply to be written again is refused while it is read, without a crash."""
    message = refusal(mfa_file(more=f', "x": {left * depth}0{right * depth}')).message
    assert "nested too deeply" in message or "depth" in message


def test_moderate_nesting() -> None:
    """Nesting beyond what any token file has is taken."""
    text = mfa_file(more=f', "x": {"[" * 200}{"]" * 200}')
    assert json.loads(tokenfile.parse(text).dump()) == json.loads(text)


@pytest.mark.parametrize("signed", ["", SIGNATURE, "placeholder", " ", "\u00e9"])
def test_what_stands_in_the_place_of_a_signature(signed: str) -> None:
    """Any string may stand where the signature goes; it is reported as it is, and replaced by a signature."""
    tokens = tokenfile.parse(mfa_file(json.dumps({"unsigned": DIGEST, "signed": signed})))
    assert tokens.signed(0) == signed
    tokens.put(0, b"\xff" * 256)
    assert tokens.signed(0) == base64.b64encode(b"\xff" * 256).decode()


def test_two_entries_of_one_approver() -> None:
    """One of them would stay, unseen; with another role, or another name, it is another's."""
    again = ENTRY.replace("admin2", "ADMIN2")
    assert refusal(quorum_token(f"[{ENTRY}, {again}]")).message == "approver ADMIN2 has two entries"
    others = ", ".join((ENTRY, ENTRY.replace("admin2", "admin3"), ENTRY.replace('"admin"', '"crypto-user"')))
    assert len(tokenfile.parse(quorum_token(f"[{others}]")).approvals) == 3


def test_the_largest_file(tmp_path: Path) -> None:
    """Sixty-four megabytes are read, be they what they may, and no more."""
    path = tmp_path / "f"
    path.write_bytes(mfa_file())
    assert len(tokenfile.read(str(path))[1].digests) == 1
    for size, said in ((1 << 26, "UTF-16, but plain UTF-8 is needed"), ((1 << 26) + 1, "larger than 67108864 bytes")):
        with path.open("wb") as file:
            file.write(b" ")
            file.truncate(size)
        with pytest.raises(ToktoolsError) as caught:
            tokenfile.read(str(path))
        assert caught.value.message == f"{path}: {said}"


@pytest.mark.parametrize(("content", "hinted"), [(b"", True), (b"{", False)])
def test_why_a_pipe_is_empty(monkeypatch: pytest.MonkeyPatch, content: bytes, hinted: bool) -> None:  # noqa: FBT001 - pytest gives it
    """Then the command before it wrote nothing; a hint that there is stays."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    monkeypatch.setattr(files, "STDIN", reader)
    with pytest.raises(ToktoolsError) as caught:
        tokenfile.inspect(None)
    assert (caught.value.hint == "the command before it wrote nothing") == hinted
    os.close(reader)


def test_a_hint_stays(tmp_path: Path) -> None:
    """That of the file's own trouble is kept; an empty file that has a name has none."""
    for content, hint in ((b"\xff\xfe{", "PowerShell redirection"), (b"", "")):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(ToktoolsError) as caught:
            tokenfile.inspect(str(tmp_path / "f"))
        assert caught.value.hint.startswith(hint)
        assert bool(caught.value.hint) == bool(hint)

"""Properties of all commands, tried with inputs that hypothesis makes up."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import OFFICER1_PUB, ROOT, SIGNED, UNSIGNED, Done, Shell
from hypothesis import given, settings
from hypothesis import strategies as st

from toktools import encoding, records
from toktools.errors import ToktoolsError
from toktools.tokens import kinds, tokenfile

KINDS = (kinds.MFA, kinds.REGISTRATION, kinds.QUORUM_TOKEN)
quick = settings(max_examples=50, deadline=None)
thorough = settings(max_examples=120, deadline=None)


@pytest.fixture(scope="module")
def desk(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A directory with f.json, which each try overwrites."""
    return Shell(installed, tmp_path_factory.mktemp("properties"))


def run(desk: Shell, *words: str | Path, stdin: bytes = b"") -> Done:
    """Run a command in this process, and check what holds for every run."""
    done = desk.run(*words, stdin=stdin)
    assert done.status in (0, 1, 2)
    assert all(re.match("tok-[a-z]+: ", line) and line.isprintable() for line in done.err.splitlines()), done
    assert done.err or done.status < 2
    return done


# --- texts of token files and of things that are almost one

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.booleans()
    | st.none(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=10), values, max_size=4),
    max_leaves=10,
)
KNOWN = {
    *(name for kind in KINDS for name in kind.members),
    *("version", "tokens", "Data", "signatures", "username", "role", "signature"),
}
EXTRAS = st.dictionaries(st.text(max_size=10).filter(lambda name: name not in KNOWN), VALUES, max_size=3)


def in_base64(content: bytes) -> str:
    return encoding.encode(content).decode()


@st.composite
def members(draw: st.DrawFn, required: dict[str, Any]) -> dict[str, Any]:
    """Return an object with the required members and others, in any order."""
    return dict(draw(st.permutations([*required.items(), *draw(EXTRAS).items()])))


@st.composite
def entries(draw: st.DrawFn, kind: kinds.Kind) -> dict[str, Any]:
    """Return the members of a token of this kind, with approval data whose SHA-256 is the digest."""
    if kind.has_approval_data:
        data = draw(st.binary(min_size=1, max_size=200))
        entry = {"approval_data": in_base64(data), kind.digest: in_base64(sha256(data).digest())}
    else:
        # No text, since bytes that are nothing but base64 are refused as encoded twice.
        entry = {kind.digest: in_base64(draw(st.binary(min_size=31, max_size=31)) + b"\x80")}
    if not kind.has_approvals:
        entry["signed"] = draw(st.just("") | st.text(max_size=20))
    return entry


@st.composite
def approvals(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return the approvals of people with different names, and with signatures that no damage makes equal."""
    usernames = draw(st.lists(st.text(max_size=10), max_size=3, unique_by=str.lower))
    listed = []
    for number, username in enumerate(usernames):
        signature = draw(st.sampled_from(["", sha256(bytes([number])).hexdigest()]))
        role = draw(st.sampled_from([{}, {"role": "admin"}, {"role": "crypto-user"}]))
        listed.append(draw(members({"username": username, "signature": signature, **role})))
    return listed


@st.composite
def token_files(draw: st.DrawFn) -> bytes:
    """Return token files of all kinds with members, of all sorts, that no kind knows."""
    kind = draw(st.sampled_from(KINDS))
    document: dict[str, Any] = {"version": "2.0"}
    if kind.has_approvals:
        document |= {**draw(entries(kind)), "signatures": draw(approvals())}
    else:
        document["tokens"] = [draw(members(entry)) for entry in draw(st.lists(entries(kind), min_size=1, max_size=4))]
    return json.dumps(draw(members(document)), ensure_ascii=draw(st.booleans())).encode()


@st.composite
def damaged(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> bytes:
    """Return the contents with bytes flipped, cut out and put in."""
    content = bytearray(draw(contents))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        damage = draw(st.sampled_from(["flip", "cut", "cut the rest", "insert", "again"]))
        if damage == "flip" and start < len(content):
            content[start] ^= 1 << draw(st.integers(0, 7))
        elif damage == "cut":
            del content[start : start + draw(st.integers(1, 20))]
        elif damage == "cut the rest":
            del content[start:]
        elif damage == "insert":
            content[start:start] = draw(st.binary(min_size=1, max_size=4))
        elif damage == "again":
            content[start:start] = content[start : start + draw(st.integers(1, 200))]
    return bytes(content)


# Objects of the right names with the wrong values come further into the kinds than bytes at random do.
ALMOST_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["2.0", 2.0, "1.0", "", None, in_base64(bytes(32))]) | VALUES,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.sampled_from(sorted(KNOWN)), values, max_size=4),
    max_leaves=12,
)
ALMOST = st.dictionaries(st.sampled_from(sorted(KNOWN)), ALMOST_VALUES, max_size=4).map(json.dumps).map(str.encode)
PUBLISHED = st.sampled_from(
    [path.read_bytes() for path in (UNSIGNED, SIGNED, *(ROOT / "examples" / "aws-quorum").glob("*.token"))]
)
ANY_FILE = st.binary(max_size=100) | damaged(PUBLISHED) | damaged(token_files()) | ALMOST
ANY_STREAM = st.binary(max_size=100) | damaged(
    st.lists(st.binary(min_size=30, max_size=34) | st.binary(min_size=256, max_size=256), max_size=4).map(
        lambda contents: b"".join(map(encoding.line, contents))
    )
)


def signature_lines(count: int) -> bytes:
    """Return as many well-formed signatures, all different."""
    return b"".join(encoding.line(number.to_bytes(256, "big")) for number in range(1, count + 1))


def written(tokens: tokenfile.TokenFile) -> bytes:
    return b"".join(tokens.dump())


# --- the properties


@given(text=token_files())
@thorough
def test_signatures_are_the_only_difference(text: bytes) -> None:
    """Whatever else a token file holds survives the merge: members, their order and their values."""
    tokens = tokenfile.parse(text)
    document = json.loads(text)
    assert json.dumps(json.loads(written(tokens))) == json.dumps(document)
    assert written(tokenfile.parse(written(tokens))) == written(tokens)
    for index in range(len(tokens.digests)):
        new = encoding.encode(bytes([index]) * 256).decode()
        if tokens.kind.has_approvals:
            entry: dict[str, object] = {"username": "no name of another's, of 10 letters", "signature": new}
            tokens.approve(entry)
            document["signatures"].append(entry)
        else:
            tokens.put(index, bytes([index]) * 256)
            document["tokens"][index]["signed"] = new
    assert json.dumps(json.loads(written(tokens))) == json.dumps(document)


@given(text=token_files() | ANY_FILE)
@thorough
def test_what_extract_lists_merge_fills(desk: Shell, text: bytes) -> None:
    """If tok-extract lists n digests, tok-merge takes n signatures, no fewer and no more, and keeps the digests."""
    path = desk.write("f.json", text)
    listed = run(desk, "tok-extract", "f.json")
    if listed.status:
        # Every command refuses the file for the same reason.
        for other in (run(desk, "tok-merge", "f.json"), run(desk, "tok-verify", "-p", OFFICER1_PUB, "f.json")):
            assert other.status == 2
            assert other.err.splitlines()[0].partition(": ")[2] == listed.err.splitlines()[0].partition(": ")[2]
        return
    count = len(listed.out.splitlines())
    approver = ["-u", "nobody_of_10_letters", "-R", "admin"] if tokenfile.parse(text).kind.has_approvals else []
    merged = run(desk, "tok-merge", *approver, "f.json", stdin=signature_lines(count))
    assert (merged.status, merged.err) == (0, "")
    assert run(desk, "tok-extract", stdin=merged.out).out == listed.out
    for wrong in (0, count - 1, count + 1, count + 5):
        refused = run(desk, "tok-merge", *approver, "f.json", stdin=signature_lines(wrong))
        assert (refused.status, refused.out) == (2, b"")
    assert path.read_bytes() == text


@given(content=ANY_FILE, stream=ANY_STREAM)
@thorough
def test_any_bytes_for_a_token_file(desk: Shell, content: bytes, stream: bytes) -> None:
    """Whatever a token file and the stream hold, the tools answer 0, 1 or 2, in messages of one line."""
    desk.write("f.json", content)
    assert run(desk, "tok-extract", "f.json").status in (0, 2)
    assert run(desk, "tok-extract", "-r", "-n", "1", stdin=content).status in (0, 2)
    assert run(desk, "tok-merge", "f.json", stdin=stream).status in (0, 2)
    assert run(desk, "tok-merge", "-u", "admin2", "f.json", stdin=stream).status in (0, 2)
    assert run(desk, "tok-merge", "--approvals", "f.json", "f.json").status in (0, 2)
    assert run(desk, "tok-merge", "-p", OFFICER1_PUB, "-", "f.json", stdin=content).status in (1, 2)
    verified = run(desk, "tok-verify", "-p", OFFICER1_PUB, "f.json")
    assert (verified.status == 0) == (verified.out.count(b": OK\n") == len(verified.out.splitlines()) > 0)
    described = run(desk, "tok-inspect", "--hex", "f.json")
    assert all(line.isprintable() for line in (verified.out + described.out).decode().splitlines())
    as_json = run(desk, "tok-inspect", "--json", "f.json")
    assert (as_json.status, as_json.err) == (described.status, described.err)
    assert bool(json.loads(as_json.out or b"{}")) == (as_json.status == 0)


@given(stream=ANY_STREAM)
@quick
def test_any_bytes_for_the_stream(desk: Shell, keys: Path, stream: bytes) -> None:
    """Whatever the stream of digests holds, tok-sign answers 0 or 2, and signs each digest before the trouble."""
    done = run(desk, "tok-sign", "-k", keys / "pkcs8.pem", stdin=stream)
    assert done.status in (0, 2)
    good = 0
    for line in stream.split(b"\n"):
        try:
            records.digest(line.removesuffix(b"\r"))
        except ToktoolsError:
            break
        good += 1
    assert len(done.out.splitlines()) == good
    raw = run(desk, "tok-sign", "-r", "-k", keys / "pkcs8.pem", stdin=stream)
    is_digest = len(stream) == 32 and not encoding.is_text(stream)
    assert (raw.status == 0) == is_digest == (len(raw.out) == 256)

"""Several token files at once: what each says, what goes on when one is wrong, and what is whole or not at all."""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import pytest
from conftest import OFFICER1_PUB, ROOT, SIGNED, UNSIGNED, Shell

from toktools import cli

QUORUM = ROOT / "examples" / "aws-quorum" / "user-management.token"


@pytest.fixture
def several(shell: Shell) -> Shell:
    """A directory with a.json and b.json, signed; f.json, unsigned; and broken.json."""
    for name in ("a.json", "b.json"):
        shutil.copy(SIGNED, shell.cwd / name)
    shell.write("broken.json", b"{")
    return shell


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ("a.json b.json", 0),
        ("a.json f.json", 1),
        ("f.json a.json", 1),
        ("broken.json a.json", 2),
        ("a.json missing.json f.json", 2),
        ("a.json f.json broken.json", 2),
    ],
)
def test_verify(several: Shell, names: str, status: int) -> None:
    """Every file that can be read has its lines, every other one a message, and the exit status is the worst."""
    done = several.run("tok-verify", "-p", OFFICER1_PUB, *names.split()).check(status)
    said = {"a.json": "OK", "b.json": "OK", "f.json": "FAILED: unsigned"}
    read = [name for name in names.split() if name in said]
    assert done.out.decode().splitlines() == [f"{name}: token {n}: {said[name]}" for name in read for n in (1, 2, 3)]
    assert len(done.err.splitlines()) == len(names.split()) - len(read)


@pytest.mark.parametrize("words", [["tok-extract"], ["tok-inspect"], ["tok-verify", "-p", str(OFFICER1_PUB)]])
def test_standard_input_twice(several: Shell, words: list[str]) -> None:
    """Standard input is one file; a second would find nothing there."""
    done = several.run(*words, "-", "f.json", "-", stdin=UNSIGNED.read_bytes())
    done.check(2, f"{words[0]}: standard input can be only one of the files\n")
    assert done.out == b""


def test_verify_of_several_kinds(several: Shell) -> None:
    """USER=PUB is an approver's key in a quorum token; a key that cannot be read ends it, and is told once."""
    shutil.copy(QUORUM, several.cwd / "q.token")
    shutil.copy(OFFICER1_PUB, several.cwd / "o.pub")
    done = several.run("tok-verify", "-p", "o.pub", "--need", "1", "q.token", "a.json").check(
        2, "a.json: --need is for"
    )
    assert done.out == b"q.token: approvals: FAILED: 0 of 1\n"
    done = several.run("tok-verify", "-p", "admin=o.pub", "q.token", "a.json").check(2)
    assert done.err.startswith("tok-verify: a.json: -p USER=PUB is for the approvers of a quorum token")
    done = several.run("tok-verify", "-p", "missing.pub", "a.json", "b.json").check(2, "missing.pub: no such file")
    assert (done.out, len(done.err.splitlines())) == (b"", 1)


def test_a_key_of_another_size(several: Shell, keys: Path) -> None:
    """A size that CloudHSM does not document is warned of, once for all of the files."""
    done = several.run("tok-verify", "-p", keys / "rsa3072.pem", "a.json", "b.json").check(1)
    said = f"{keys / 'rsa3072.pem'}: the key is RSA-3072; CloudHSM documents only RSA-2048"
    assert done.err == f"tok-verify: warning: {said}\n"


def test_a_key_from_a_pipe(several: Shell) -> None:
    """A key that is read from a pipe is read once, for all of the files."""
    script = f"tok-verify -q -p <(cat '{OFFICER1_PUB}') a.json b.json"
    assert several.sh(script, shell="bash").check(0).out == b""


def test_json_of_verify(several: Shell) -> None:
    """One file is one object; of several each has a line; the manual has all members."""
    done = several.run("tok-verify", "--json", "-p", OFFICER1_PUB, "a.json").check(0)
    assert json.loads(done.out) == {
        "file": "a.json",
        "kind": "mfa",
        "ok": True,
        "key": None,
        "signatures": [{"of": f"token {number}", "ok": True, "fault": None} for number in (1, 2, 3)],
    }
    done = several.run("tok-verify", "--json", "-p", OFFICER1_PUB, "f.json", "broken.json", "a.json").check(2)
    first, second = map(json.loads, done.out.splitlines())
    assert (first["ok"], second["ok"]) == (False, True)
    assert first["signatures"][1] == {"of": "token 2", "ok": False, "fault": "unsigned"}
    done = several.run("tok-verify", "--json", "-p", OFFICER1_PUB, stdin=SIGNED.read_bytes()).check(0)
    facts = json.loads(done.out)
    assert facts["file"] is None
    page = (ROOT / "man" / "tok-verify.1").read_text()
    for member in {**facts, **facts["signatures"][0]}:
        assert f".Ql {member}" in page


def test_inspect(several: Shell) -> None:
    """Each file begins with its name, and one that is wrong does not keep the others back."""
    done = several.run("tok-inspect", "f.json", "broken.json", "a.json").check(2, "broken.json: not JSON")
    alone = [several.run("tok-inspect", name).check(0).out for name in ("f.json", "a.json")]
    assert done.out == b"".join(alone)
    done = several.run("tok-inspect", "--json", "f.json", "a.json").check(0)
    assert [json.loads(line)["file"] for line in done.out.splitlines()] == ["f.json", "a.json"]
    assert json.loads(several.run("tok-inspect", "--json", "f.json").out) == json.loads(done.out.splitlines()[0])


def test_extract(several: Shell) -> None:
    """The digests follow each other as if by cat(1), and all files are checked before the first."""
    alone = [several.run("tok-extract", name).check(0).out for name in ("f.json", "a.json")]
    assert several.run("tok-extract", "f.json", "a.json").check(0).out == b"".join(alone)
    assert several.run("tok-extract", "f.json", "broken.json").check(2, "broken.json: not JSON").out == b""
    picked = several.run("tok-extract", "-n", "2-", "f.json", "a.json").check(0).out
    assert picked.splitlines() == [digest for out in alone for digest in out.splitlines()[1:]]
    several.run("tok-extract", "-n", "4", "a.json", "f.json").check(2, "a.json: -n names token 4")


def test_extract_raw(several: Shell) -> None:
    """With -r there is one digest, and with -s the numbers go on through the files."""
    several.run("tok-extract", "-r", "-n", "1", "f.json", "a.json").check(
        2, "f.json, a.json: -r writes one digest, not 2\n"
    )
    several.run("tok-extract", "-n", "1,3", "-s", "t", "f.json", "a.json").check(0)
    assert sorted(path.name for path in several.cwd.glob("t*.bin")) == ["t1.bin", "t3.bin", "t4.bin", "t6.bin"]
    raw = several.run("tok-extract", "-r", "-n", "3", "a.json").check(0).out
    assert several.read("t6.bin") == raw
    shutil.copy(UNSIGNED, several.cwd / "u1.bin")
    refused = several.run("tok-extract", "-s", "u", "a.json", "u1.bin").check(2, "u1.bin: this file is also an input")
    assert (refused.out, several.read("u1.bin")) == (b"", UNSIGNED.read_bytes())


@pytest.mark.parametrize(
    ("command", "words"), [("extract", []), ("inspect", []), ("verify", ["-p", str(OFFICER1_PUB)])]
)
def test_nothing_is_kept(tmp_path: Path, command: str, words: list[str]) -> None:
    """What was read from a file goes with it, though the collector does not run: nothing is in a cycle."""
    document = json.loads(UNSIGNED.read_text())
    contents = {
        "good": UNSIGNED.read_bytes(),
        "signed": SIGNED.read_bytes(),
        "none": b"{",
        "empty": b"",
        "no text": b"\xff",
        "of another version": json.dumps({**document, "version": "3.0"}).encode(),
        "of nothing": b"{}",
        "twice": b'{"a": 1, "a": 2}',
        "deep": b"[" * 300 + b"]" * 300,
        "no digest": json.dumps({**document, "tokens": [{"unsigned": "x", "signed": ""}]}).encode(),
        "PEM": OFFICER1_PUB.read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths = [str(tmp_path / name) for name in contents]
    cli.main(command, [*words, *paths])  # what is kept for good comes with the first
    gc.collect()
    gc.disable()
    try:
        cli.main(command, [*words, *paths * 3])
        left = gc.collect()
        cli.main(command, [*words, *paths * 9])
        assert gc.collect() == left
    finally:
        gc.enable()

"""The benchmark: that it compares the same thing, and that it runs; never how fast anything is."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from conftest import ROOT, UNSIGNED, Shell, need, only_if

BENCH = ROOT / "bench"
TOOLS = ("jq", "openssl", "base64")


@pytest.mark.parametrize("count", [0, 1, 30], ids=["AWS's file", "one token", "many tokens"])
def test_documented_steps(shell: Shell, keys: Path, count: int) -> None:
    """The documented steps and the pipeline write the same file, byte for byte."""
    need(*TOOLS)
    tokens = [{"unsigned": b64encode(os.urandom(32)).decode(), "signed": ""} for _ in range(count)]
    shell.write(
        "f.json",
        f"{json.dumps({'version': '2.0', 'tokens': tokens}, indent=2)}\n".encode() if count else UNSIGNED.read_bytes(),
    )
    key = keys / "pkcs8.pem"
    steps = shell.run("sh", BENCH / "documented-steps.sh", key, "f.json", shell.cwd).check(0)
    pipeline = shell.sh(f"tok-extract f.json | tok-sign -k {key} | tok-merge f.json").check(0)
    assert (steps.out, steps.err) == (pipeline.out, "")


def test_the_whole_bench_runs(shell: Shell) -> None:
    """Every row of the table is measured, here once and on little."""
    need(*TOOLS)
    only_if(sys.platform == "linux", "the bench reads /proc")
    command = (shell.bin / "python", BENCH / "bench.py", "--smoke", "--commands", shell.bin)
    done = shell.run(*command, env=shell.unmeasured, timeout=600).check(0)
    rows = [line.split("|") for line in done.out.decode().splitlines() if line.startswith("| ")]
    assert len(rows) >= 15
    for command_name in ("exec", "extract", "inspect", "merge", "sign", "verify"):
        assert [row for row in rows if f"`tok-{command_name}" in row[1]]
    assert "Python 3." in done.out.decode()


def test_the_page_has_what_the_bench_replaces() -> None:
    """The page of the figures has the two marks between which the bench puts them, with figures, and the chart."""
    before, figures, after = (ROOT / "docs" / "performance.md").read_text().partition("<!-- figures -->\n")
    assert before
    assert figures
    assert "| target |" in after.partition("<!-- end -->\n")[0]
    assert "performance.svg" in after.partition("<!-- end -->\n")[2]
    assert (ROOT / "docs" / "performance.svg").read_text().startswith("<?xml")

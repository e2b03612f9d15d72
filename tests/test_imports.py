"""Heavy imports come after the options are parsed, and only if they are needed: they are most of a command's start."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import OFFICER1_PUB, SIGNED, Shell

HEAVY = {
    "asyncio",
    "boto3",
    "concurrent",
    "cryptography",
    "cryptography.x509",
    "ctypes",
    "dataclasses",
    "email",
    "hashlib",
    "inspect",
    "json",
    "logging",
    "orjson",
    "pkcs11",
    "subprocess",
    "tempfile",
    "threading",
    "toktools.system.atomic",
    "toktools.system.terminal",
    "typing",
}
KEYS = {"cryptography", "dataclasses", "hashlib", "inspect", "typing"}
"""What the library loads to read a key in PEM; hashlib on old Pythons alone."""
RUNS: dict[str, set[str]] = {
    "login --help": set(),
    "enroll --version": set(),
    "sign": set(),
    "sign -k pkcs8.pem": KEYS,
    f"extract {SIGNED}": {"json"},
    f"inspect {SIGNED}": {"json"},
    f"merge {SIGNED}": {"json"},
    f"verify -p {OFFICER1_PUB} {SIGNED}": {"json", "toktools.system.terminal", *KEYS},
}
PROGRAM = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print(*set(sys.modules) - before, file=sys.stderr))
from toktools.cli import run
run(sys.argv.pop(1))
"""


@pytest.mark.parametrize("words", RUNS)
def test_heavy_imports(shell: Shell, keys: Path, words: str) -> None:
    """A run imports no heavy module but what its task needs."""
    digests = shell.run("tok-extract", "f.json").out
    done = shell.run(shell.bin / "python", "-c", PROGRAM, *words.split(), stdin=digests, cwd=keys, env=shell.unmeasured)
    loaded = done.err.splitlines()[-1].split()
    assert "argparse" in loaded
    assert HEAVY & set(loaded) <= RUNS[words]

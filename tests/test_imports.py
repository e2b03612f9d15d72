"""Heavy imports come after the options are parsed, and only if they are needed: they are most of a command's start."""

from __future__ import annotations

import pytest
from conftest import OFFICER1_PUB, SIGNED, Shell

HEAVY = {
    "asyncio",
    "boto3",
    "cryptography",
    "dataclasses",
    "inspect",
    "logging",
    "orjson",
    "pkcs11",
    "subprocess",
    "typing",
}
RUNS: dict[str, set[str]] = {
    "login --help": set(),
    "enroll --version": set(),
    "sign": set(),
    f"extract {SIGNED}": set(),
    f"inspect {SIGNED}": set(),
    f"merge {SIGNED}": set(),
    f"verify -p {OFFICER1_PUB} {SIGNED}": {"cryptography", "dataclasses", "inspect", "typing"},
}
PROGRAM = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print(*{name.partition(".")[0] for name in set(sys.modules) - before}, file=sys.stderr))
from toktools.cli import run
run(sys.argv.pop(1))
"""


@pytest.mark.parametrize("words", RUNS)
def test_heavy_imports(shell: Shell, words: str) -> None:
    """A run imports no heavy module but what its task needs."""
    done = shell.run(shell.bin / "python", "-c", PROGRAM, *words.split(), env=shell.unmeasured)
    loaded = done.err.splitlines()[-1].split()
    assert "argparse" in loaded
    assert HEAVY & set(loaded) <= RUNS[words]

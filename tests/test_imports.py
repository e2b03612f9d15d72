"""Heavy imports come after the options are parsed, and only where they are needed: they are most of a command's start."""

from __future__ import annotations

import pytest
from conftest import OFFICER1_PUB, SIGNED, Shell

HEAVY = {"boto3", "cryptography", "difflib", "inspect", "logging", "orjson", "pkcs11", "sqlite3", "subprocess", "typing"}
RUNS = {
    "tok-login --help": set(),
    "tok-sign --version": set(),
    "tok-verify f.json missing": {"cryptography"},
    f"tok-extract {SIGNED}": {"orjson"},
    f"tok-inspect {SIGNED}": {"orjson"},
    f"tok-merge {SIGNED}": {"orjson"},
    f"tok-merge -p {OFFICER1_PUB} {SIGNED}": {"cryptography", "orjson"},
    f"tok-verify -p {OFFICER1_PUB} {SIGNED}": {"cryptography", "orjson"},
}
PROGRAM = """
import atexit, sys
before = set(sys.modules)
atexit.register(lambda: print(*sorted(set(sys.modules) - before), file=sys.stderr))
from toktools.cli import run
run(sys.argv.pop(1))
"""

"""What a command imports, which is most of the time that it takes to start."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import OFFICER1_PUB, SIGNED, Shell

# What every command may use of the standard library.
LIGHT = "__future__, binascii, collections.abc, contextlib, errno, functools, gc, itertools, signal, sys, types"
TOKEN_FILE = f"{LIGHT}, json, orjson, re"
SECRETIVE = "_ctypes, resource"  # no core dump
CRYPTOGRAPHY = ", ".join(
    f"cryptography.{module}"
    for module in (
        "exceptions",
        "hazmat.primitives.asymmetric.padding",
        "hazmat.primitives.asymmetric.rsa",
        "hazmat.primitives.asymmetric.utils",
        "hazmat.primitives.hashes",
        "hazmat.primitives.serialization",
    )
)
KEY = f"{LIGHT}, {SECRETIVE}, {CRYPTOGRAPHY}, re, warnings"
SIGNER = ("sh", "-c", "cat >/dev/null; head -c 256 /dev/zero")
COMMANDS = (
    "tok-enroll",
    "tok-exec",
    "tok-extract",
    "tok-inspect",
    "tok-login",
    "tok-merge",
    "tok-rehearse",
    "tok-sign",
    "tok-verify",
)
FLAGS = {"--help": LIGHT, "--version": LIGHT, "--bogus": f"{LIGHT}, difflib"}

# The words of a run, and the imports that it is worth.
RUNS = {
    **{f"{command} {flag}": ((command, flag), wanted) for command in COMMANDS for flag, wanted in FLAGS.items()},
    "tok-extract": (("tok-extract", SIGNED), TOKEN_FILE),
    "tok-inspect": (("tok-inspect", SIGNED), TOKEN_FILE),
    "tok-merge": (("tok-merge", SIGNED), f"{TOKEN_FILE}, {SECRETIVE}"),
    "tok-sign": (("tok-sign", "-k", "officer1.key"), KEY),
    "tok-verify": (("tok-verify", "-p", OFFICER1_PUB, SIGNED), f"{TOKEN_FILE}, {KEY}"),
    "tok-exec": (("tok-exec", *SIGNER), f"{LIGHT}, {SECRETIVE}, queue, select, subprocess, threading, time"),
}


def imported(shell: Shell, *words: str | Path, stdin: bytes = b"") -> set[str]:
    """Return the modules that a run of Python imports, but for those of toktools."""
    done = shell.run(shell.bin / "python", "-X", "importtime", *words, stdin=stdin, env=shell.unmeasured)
    done.check(2 if "--bogus" in words else 0)
    times = [line.rpartition("|")[2].strip() for line in done.err.splitlines() if line.startswith("import time:")]
    assert times
    return {name for name in times if not name.startswith("toktools")}


@pytest.mark.parametrize(("words", "wanted"), RUNS.values(), ids=RUNS)
def test_nothing_else_is_imported(shell: Shell, keys: Path, words: tuple[str | Path, ...], wanted: str) -> None:
    """A run imports no module but what its task needs, with what that imports itself in this Python."""
    command, *arguments = words
    if command == "tok-sign":
        (shell.cwd / "officer1.key").symlink_to(keys / "pkcs8.pem")
    field = '"signed": "' if command == "tok-merge" else '"unsigned": "'
    records = [line.partition(field)[2] for line in SIGNED.read_text().splitlines() if field in line]
    stream = "".join(record.rstrip('",') + "\n" for record in records).encode()
    found = imported(shell, shell.bin / command, *arguments, stdin=stream)
    assert found - imported(shell, "-c", f"import {wanted}") == set()


def test_the_stand_in_does_without(shell: Shell) -> None:
    """What only a trust anchor needs does not hold up every command of tok-rehearse."""
    words = ["--state", "s", "cluster", "activate", "--password", "for-practice"]
    found = imported(shell, shell.bin / "tok-rehearse", *words)
    assert "cryptography.hazmat.primitives.keywrap" in found
    assert "cryptography.x509" not in found

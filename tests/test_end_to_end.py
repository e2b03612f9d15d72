"""The end-to-end scripts, one a command, against the installed commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import AWS_MFA, ROOT, Shell, need

NEEDS = {
    "tok-enroll": ("openssl", "jq"),
    "tok-exec": ("openssl",),
    "tok-extract": ("openssl",),
    "tok-inspect": ("openssl", "jq"),
    "tok-login": ("openssl",),
    "tok-merge": ("openssl",),
    "tok-rehearse": ("openssl",),
    "tok-sign": ("openssl",),
    "tok-verify": ("openssl",),
}
"""Each script, with the programs that it and the test keys take beside those that every system has."""
SCRIPTS = sorted((ROOT / "tests" / "e2e").glob("tok-*.sh"))


def test_every_command_has_its_script() -> None:
    """There is one end-to-end script for each of the commands, and none beside them."""
    stems = [script.stem for script in SCRIPTS]
    assert stems == sorted(path.name for path in (ROOT / "bin").iterdir())
    assert stems == list(NEEDS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script(script: Path, installed: Path, keys: Path, tmp_path: Path) -> None:
    """The command keeps every promise that its end-to-end script checks."""
    need(*NEEDS[script.stem])
    shell = Shell(installed, tmp_path)
    env = {**shell.env, "BIN": str(installed), "AWS": str(AWS_MFA), "KEYS": str(keys)}
    done = shell.run("sh", "-x", script, env=env, timeout=300)
    assert done.status == 0, f"exit status {done.status}\n{done.out.decode(errors='replace')}{done.err}"

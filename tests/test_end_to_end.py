"""The end-to-end scripts, one a command, against the installed commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import AWS_MFA, ROOT, Shell

SCRIPTS = sorted((ROOT / "tests" / "e2e").glob("tok-*.sh"))


def test_every_command_has_its_script() -> None:
    """There is one end-to-end script for each of the commands, and none beside them."""
    stems = [script.stem for script in SCRIPTS]
    assert stems == sorted(door.name for door in (ROOT / "bin").iterdir())
    assert stems == [
        "tok-enroll",
        "tok-exec",
        "tok-extract",
        "tok-inspect",
        "tok-login",
        "tok-merge",
        "tok-rehearse",
        "tok-sign",
        "tok-verify",
    ]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script(script: Path, installed: Path, keys: Path, tmp_path: Path) -> None:
    """The command keeps every promise that its end-to-end script checks."""
    shell = Shell(installed, tmp_path)
    env = {**shell.env, "BIN": str(installed), "AWS": str(AWS_MFA), "KEYS": str(keys)}
    done = shell.run("sh", "-x", script, env=env, timeout=300)
    assert done.status == 0, f"exit status {done.status}\n{done.out.decode(errors='replace')}{done.err}"

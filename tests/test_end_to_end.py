"""The end-to-end scripts, one a command, against the installed commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import AWS_MFA, ROOT, Shell, need

SCRIPTS = sorted((ROOT / "tests" / "e2e").glob("tok-*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script(script: Path, installed: Path, keys: Path, tmp_path: Path) -> None:
    """The command keeps every promise that its end-to-end script checks."""
    need("openssl", *re.findall(r"\bjq\b", script.read_text()))  # all else is in every system
    shell = Shell(installed, tmp_path)
    env = {**shell.env, "BIN": str(installed), "AWS": str(AWS_MFA), "KEYS": str(keys)}
    done = shell.run("sh", "-x", script, env=env, timeout=300)
    assert done.status == 0, f"exit status {done.status}\n{done.out.decode(errors='replace')}{done.err}"

"""What holds for the project as a whole: one name for a command, one version, one helper for what a test needs."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from conftest import ROOT, Shell

COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
PAGES = sorted((ROOT / "man").iterdir())


def test_names_are_equal() -> None:
    """A command has one name: of its script, its module, its page and its end-to-end test."""
    assert COMMANDS
    modules = sorted(f"tok-{path.stem}" for path in (ROOT / "src/toktools/commands").glob("[a-z]*.py"))
    scripts = sorted(path.stem for path in (ROOT / "tests/e2e").glob("tok-*.sh"))
    assert COMMANDS == modules == scripts == [path.stem for path in PAGES if path.suffix == ".1"]


@pytest.mark.parametrize("command", COMMANDS)
def test_script(command: str) -> None:
    """A script is the import of run and its call, whatever the command."""
    text = (ROOT / "bin" / "tok-sign").read_text().replace("tok-sign", command)
    assert (ROOT / "bin" / command).read_text() == text.replace('"sign"', f'"{command[4:]}"')


def test_one_helper_decides_what_is_there() -> None:
    """No test looks for a program, a module or a file of the system itself to skip, which CI would not hear of."""
    by_itself = re.compile(r"importorskip|pytest\.skip\(")
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert {path.name for path in tests if by_itself.search(path.read_text())} == {"conftest.py"}


def test_versions_agree(shell: Shell) -> None:
    """The changelog's newest release is the version that the commands, the pages and the RPM package tell."""
    newest = re.search(r"^## \[(\d.*?)\] - (.*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    spec = (ROOT / "packaging/rpm/toktools.spec").read_text()
    assert re.findall(r"^Version: *(.*)", spec, re.MULTILINE) == [newest[1]]
    assert f"* {date.fromisoformat(newest[2]):%a %b %d %Y} " in spec
    assert {page.name for page in PAGES if f"\n.Os toktools {newest[1]}\n" not in page.read_text()} == set()
    assert shell.run("tok-sign", "--version").out.decode() == f"tok-sign (toktools) {newest[1]}\n"


def test_lists_of_tests() -> None:
    """Every test that the Makefile and pyproject.toml name is there."""
    quick = (ROOT / "Makefile").read_text().split("$(patsubst %,tests/%.py,", 1)[1].split(")", 1)[0]
    named = [f"tests/{name}.py" for name in quick.replace("\\", "").split()]
    named += re.findall(r'"(tests/[\w/]+(?:\.py)?)"', (ROOT / "pyproject.toml").read_text())
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []

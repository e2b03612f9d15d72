"""One name for a command everywhere, and one text for an option; what the packages contain."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import zipfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import ROOT, Shell, need

from toktools import cli

if TYPE_CHECKING:
    from toktools.parser import Parser

SOURCES = sorted((ROOT / "src" / "toktools").rglob("*.py"))
COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
PAGES = sorted((ROOT / "man").iterdir())


def plain(mdoc: str) -> str:
    """The words of a line or more of mdoc, without macros and punctuation."""
    words = re.sub(r"^\.[A-Z][a-z]\b|\b(?:Ql|Ar|Pa|Xr|Fl)\b", " ", mdoc, flags=re.MULTILINE)
    return " ".join(re.findall(r"\w+", words)).lower()


def rendered(page: str, section: str) -> str:
    """A section as man(1) shows it, in one line."""
    need("mandoc")
    shown = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=200"], input=page, capture_output=True, text=True, check=True
    )
    text = re.sub(r".\x08", "", shown.stdout)
    return " ".join(re.split(r"^\S", text.split(f"\n{section}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0].split())


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


def synopsis(parser: Parser) -> str:
    """The usage of a command as its page has it."""
    parts = [parser.prog]
    for action in parser.options:
        members, required = next(
            (group for group in parser.exclusive if action in group[0]), ([action], action.required)
        )
        if action is not members[0] or action.dest in {"help", "version"}:
            continue
        text = " | ".join(f"{each.option_strings[0]} {each.metavar or ''}".strip() for each in members)
        more = "..." if isinstance(action.default, list) and not action.type else ""
        parts.append((text if required else f"[{text}]") + more)
    operands = [f"[{action.metavar}...]" if action.nargs else str(action.metavar) for action in parser.operands]
    return " ".join([*parts, *operands])


@pytest.mark.parametrize("command", COMMANDS)
def test_page_and_help_agree(command: str) -> None:
    """The page has the purpose, the usage, and each option and operand of --help in the same words."""
    page = (ROOT / "man" / f"{command}.1").read_text()
    parser = cli.parser(command.removeprefix("tok-"))
    assert plain(page.split(".Nd", 1)[1].split("\n", 1)[0]) == plain(str(parser.description))
    assert rendered(page, "SYNOPSIS").replace("-- ", "") == synopsis(parser)
    described = {}
    for entry in page.split(".Sh DESCRIPTION", 1)[1].split(".Sh", 1)[0].split("\n.It ")[1:]:
        head, body = entry.split("\n", 1)
        described[plain(head)] = plain(body)
    for action in (*parser.operands, *parser.options):
        if action.nargs != argparse.REMAINDER:
            head = f"{' '.join(action.option_strings)} {action.metavar or ''}"
            assert described.pop(plain(head)).startswith(plain(str(action.help)))
    assert not described


def test_every_purpose_is_in_the_overview() -> None:
    """toktools(7) lists each command with the one line that its own page has."""
    overview = (ROOT / "man/toktools.7").read_text()
    for command in COMMANDS:
        purpose = (ROOT / "man" / f"{command}.1").read_text().split(".Nd ", 1)[1].split("\n", 1)[0]
        assert f".It Xr {command} 1\n{purpose}\n" in overview


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_clean(page: Path) -> None:
    """Mandoc has nothing to say against a page."""
    need("mandoc")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_one_helper_decides_what_is_there() -> None:
    """No test looks a program, a module or a file of the system up by itself, which CI might not hear of."""
    by_itself = re.compile(r"shutil\.which|find_spec|importorskip|pytest\.skip\b|command -v")
    tests = [*(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "e2e").iterdir()]
    found = {path.name for path in tests if by_itself.search(path.read_text())}
    assert found == {"conftest.py", "test_house.py", "test_manual.py"}


def test_wheel_has_commands_and_pages(wheel: Path) -> None:
    """The wheel carries every command, every page and every module, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.rpartition("/")[2] for name in names if "/scripts/" in name} == set(COMMANDS)
    pages = {name.rpartition("/share/man/")[2] for name in names if "/share/man/" in name}
    assert pages == {f"man{page.suffix[1:]}/{page.name}" for page in PAGES}
    modules = {name for name in names if name.startswith("toktools/")}
    assert modules == {str(path.relative_to(ROOT / "src")) for path in SOURCES} | {"toktools/py.typed"}
    completions = sorted(path.name for path in (ROOT / "completions").rglob("*tok-*"))
    shared = [name for name in names if "/share/" in name and "/share/man/" not in name]
    assert sorted(name.rpartition("/")[2] for name in shared) == completions
    about = [name for name in names if ".dist-info/" in name]
    assert len(names) == len(COMMANDS) + len(pages) + len(modules) + len(shared) + len(about)


def test_sdist_builds_the_same_wheel(tmp_path: Path, wheel: Path) -> None:
    """The source distribution has what is needed to run the tests, and to build the wheel with the same contents."""
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run([*build, "-t", "sdist"], cwd=ROOT, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
        sdist.extraction_filter = getattr(tarfile, "data_filter", None)  # later releases want one
        sdist.extractall(tmp_path)
    subprocess.run([*build, "-t", "wheel"], cwd=tmp_path / archive.name.removesuffix(".tar.gz"), check=True)
    (again,) = tmp_path.glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()
    wanted = [
        "README.md",
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "completions/bash/tok-sign",
        "examples/demo.sh",
        "tests/conftest.py",
    ]
    assert names >= {*wanted, *(f"bin/{command}" for command in COMMANDS), *(f"man/{page.name}" for page in PAGES)}
    assert not [name for name in names if name.startswith((".venv", "dist", ".coverage"))]


def test_installed_scripts_name_their_interpreter(installed: Path) -> None:
    """An installed command runs with the interpreter that it was installed for, whatever the path says."""
    for command in COMMANDS:
        first = (installed / command).read_text().split("\n", 1)[0]
        assert first == f"#!{installed / 'python'}"


def test_versions_agree(shell: Shell) -> None:
    """The changelog's newest release is the version that the commands and the RPM package tell."""
    newest = re.search(r"^## \[(\d.*?)\] - (.*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    spec = (ROOT / "packaging/rpm/toktools.spec").read_text()
    assert re.findall(r"^Version: *(.*)", spec, re.MULTILINE) == [newest[1]]
    assert f"* {date.fromisoformat(newest[2]):%a %b %d %Y} " in spec
    assert shell.run("tok-sign", "--version").out.decode() == f"tok-sign (toktools) {newest[1]}\n"

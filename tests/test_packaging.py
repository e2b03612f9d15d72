"""From the checkout to an installation, and away again: builds that repeat, and make install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, need, only_if

COMMANDS = sorted(path.name for path in (ROOT / "bin").iterdir())
PAGES = sorted(path.name for path in (ROOT / "man").iterdir())
MODULES = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "toktools").rglob("*.py")}


def checkout(home: Path) -> Path:
    """A copy of the checkout without what was made in it."""
    made = [".git", ".venv*", ".*_cache", ".hypothesis", ".coverage*", "__pycache__", "dist", "html", "mutants"]
    return Path(shutil.copytree(ROOT, home, ignore=shutil.ignore_patterns(*made)))


def test_two_builds_are_the_same(tmp_path: Path) -> None:
    """The wheel and the source distribution are the same to the byte, whenever, where and by whom they are built."""
    built = []
    for name, umask, date in (("one", 0o022, 1_000_000_000), ("another/place", 0o077, 1_700_000_000)):
        home = checkout(tmp_path / name)
        for path in home.rglob("*"):
            os.utime(path, (date, date))
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path / name / "dist")],
            cwd=home,
            check=True,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1600000000", "PYTHONHASHSEED": str(umask)},
            preexec_fn=lambda umask=umask: os.umask(umask),  # type: ignore[misc]
        )
        built.append({path.name: path.read_bytes() for path in (home / "dist").iterdir()})
    assert len(built[0]) == 2
    assert built[0] == built[1]


def test_wheel_has_commands_and_pages(wheel: Path) -> None:
    """The wheel carries every command, every page and every module, and nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.rpartition("/")[2] for name in names if "/scripts/" in name} == set(COMMANDS)
    pages = {name.rpartition("/share/man/")[2] for name in names if "/share/man/" in name}
    assert pages == {f"man{page[-1]}/{page}" for page in PAGES}
    modules = {name for name in names if name.startswith("toktools/")}
    assert modules == MODULES | {"toktools/py.typed"}
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
    subprocess.run(["tar", "xzf", archive], cwd=tmp_path, check=True)
    home = tmp_path / archive.name.removesuffix(".tar.gz")
    subprocess.run([*build, "-t", "wheel"], cwd=home, check=True)
    (again,) = tmp_path.glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()
    assert all((home / name).exists() for name in ("LICENSE", "examples/demo.sh", "tests/conftest.py"))
    assert not [path for path in home.iterdir() if path.name.startswith((".venv", "dist", ".coverage"))]


def stub(directory: Path, name: str) -> None:
    """A wheel of that name with nothing in it, for a machine that cannot fetch the real one."""
    about = f"{name}-99.dist-info"
    with zipfile.ZipFile(directory / f"{name}-99-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 99\n")
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


class Bundle:
    """A bundle as packaging/bundle.sh lays it out, whose libraries are empty, and a prefix to install it in."""

    def __init__(self, home: Path, wheel: Path) -> None:
        self.home = home
        self.prefix = home / "prefix"
        self.directory = home / "bundle"
        self.wheels = self.directory / "wheels"
        self.wheels.mkdir(parents=True)
        shutil.copy(ROOT / "packaging" / "install.sh", self.directory)
        shutil.copy(wheel, self.wheels)
        for name in ("cryptography", "orjson"):
            stub(self.wheels, name)
        self.seal()

    def seal(self) -> None:
        subprocess.run("sha256sum -- wheels/*.whl > SHA256SUMS", shell=True, cwd=self.directory, check=True)

    def install(self, *words: str, umask: int = 0o022, status: int = 0) -> str:
        """Run install.sh for this Python, with no extras, but for what words say; return what it says."""
        usual = [f"--prefix={self.prefix}", f"--python={sys.executable}", "--extras=none"]
        done = subprocess.run(
            [self.directory / "install.sh", *usual, *words],
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PIP_NO_INDEX": "1"},
            preexec_fn=lambda: os.umask(umask),
        )
        assert (done.returncode, bool(done.stderr)) == (status, status > 0), done
        return done.stdout + done.stderr

    def version(self, prefix: Path) -> str:
        return subprocess.run([prefix / "bin" / "tok-sign", "--version"], stdout=-1, text=True, check=True).stdout


@pytest.fixture
def bundle(tmp_path: Path, wheel: Path) -> Bundle:
    need("sha256sum")
    return Bundle(tmp_path, wheel)


def links(prefix: Path) -> set[str]:
    """The links in a prefix, each of which leads to something."""
    found = [path for path in prefix.rglob("*") if path.is_symlink() and "lib/toktools" not in str(path.parent)]
    assert all(path.exists() for path in found)
    return {str(path.relative_to(prefix)) for path in found}


def check_modes(prefix: Path) -> None:
    """Assert that all may run what is installed, and nobody else may write it."""
    paths = [path for path in prefix.rglob("*") if not path.is_symlink()]
    assert len(paths) > 100
    for path in (prefix, *paths):
        mode = path.stat().st_mode & 0o777
        assert mode in {0o755, 0o644}, path
        assert mode == 0o755 or not (path.is_dir() or (path.name in COMMANDS and path.parent.name == "bin")), path


def test_destdir_and_uninstall(bundle: Bundle) -> None:
    """With DESTDIR it is put there and runs at its prefix, of which nothing is made yet; what came goes again."""
    assert bundle.install("--destdir", str(bundle.home / "image"), umask=0o000) == ""
    assert not bundle.prefix.exists()
    image = bundle.home / "image" / bundle.prefix.relative_to("/")
    found = links(image)
    assert {f"bin/{command}" for command in COMMANDS} <= found
    assert {f"share/man/man{page[-1]}/{page}" for page in PAGES} <= found
    check_modes(image)
    named = subprocess.run(["grep", "-rIl", str(bundle.home / "image"), str(image)], capture_output=True, check=False)
    assert named.stdout == b""
    image.rename(bundle.prefix)
    assert "tok-sign (toktools)" in bundle.version(bundle.prefix)
    for path in (bundle.prefix / "lib" / "toktools" / "bin").glob("tok-*"):
        assert path.read_text().startswith(f"#!{bundle.prefix}/lib/toktools/bin/python")
    bundle.install("--uninstall")
    assert not bundle.prefix.exists() or not list(bundle.prefix.iterdir())
    assert "nothing is installed" in bundle.install("--uninstall", status=2)


def test_upgrade(bundle: Bundle) -> None:
    """An upgrade leaves nothing of the older version, and what others have put there as it was; so does the next.

    Whatever the umask, here and with DESTDIR, all may run what is installed and nobody else may write it.
    """
    home = bundle.prefix / "lib" / "toktools"
    old = [home / "bin" / "tok-gone", home / "lib" / "python3.1" / "gone.py", home / "share/man/man1/tok-gone.1"]
    for path in old:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of the older version")
    mans = bundle.prefix / "share" / "man" / "man1"
    for directory in (bundle.prefix / "bin", mans):
        directory.mkdir(parents=True)
        (directory / "other").write_text("of somebody else")
        (directory / "elsewhere").symlink_to("/bin/sh")
    (bundle.prefix / "bin" / "tok-gone").symlink_to("../lib/toktools/bin/tok-gone")
    (mans / "tok-gone.1").symlink_to("../../../lib/toktools/share/man/man1/tok-gone.1")
    said = bundle.install(umask=0o077)
    for text in (
        f"toktools is in {bundle.prefix}",
        f'PATH="{bundle.prefix}/bin:$PATH"',
        f"fpath=({bundle.prefix}/share/",
    ):
        assert text in said
    assert "tok-sign (toktools)" in bundle.version(bundle.prefix)
    assert {f"bin/{command}" for command in COMMANDS} <= links(bundle.prefix)
    check_modes(home)
    assert not list(bundle.prefix.rglob("*gone*"))
    assert sorted(path.name for path in home.parent.iterdir()) == ["toktools"]
    # Once more, by a relative path, and with an extra.
    stub(bundle.wheels, "python_pkcs11")
    bundle.seal()
    bundle.install("--prefix", bundle.prefix.name, "--extras=pkcs11")
    assert "tok-sign (toktools)" in bundle.version(bundle.prefix)
    assert list(home.glob("lib/python*/site-packages/python_pkcs11-99.dist-info"))
    # One that fails leaves what is there as it is.
    next(bundle.wheels.glob("orjson*")).unlink()
    bundle.seal()
    before = sorted(bundle.prefix.rglob("*"))
    said = bundle.install(status=2)
    assert said.startswith("install.sh: the bundle has no wheel of orjson for Python 3.")
    assert said.count("\n") == 1
    assert sorted(bundle.prefix.rglob("*")) == before
    assert "tok-sign (toktools)" in bundle.version(bundle.prefix)
    bundle.install("--uninstall")
    left = {str(path.relative_to(bundle.prefix)) for path in bundle.prefix.rglob("*") if not path.is_dir()}
    assert left == {f"{directory}/{name}" for directory in ("bin", "share/man/man1") for name in ("other", "elsewhere")}


def test_damaged_bundle(bundle: Bundle) -> None:
    """Of a bundle with a changed wheel nothing is installed."""
    with next(bundle.wheels.glob("orjson*")).open("ab") as wheel:
        wheel.write(b"\n")
    assert "install.sh: the bundle is damaged" in bundle.install(status=2)
    assert not bundle.prefix.exists()


def test_another_installation_stays(bundle: Bundle) -> None:
    """Commands that pipx, uv or pip have put there are not replaced."""
    command = bundle.prefix / "bin" / "tok-sign"
    command.parent.mkdir(parents=True)
    command.symlink_to(shutil.copy("/bin/sh", bundle.home / "tok-sign"))
    said = bundle.install(status=2)
    assert said.startswith(f"install.sh: {command} is of another installation, which must go first (pipx uninstall ")
    assert [path for path in bundle.prefix.rglob("*") if not path.is_dir()] == [command]
    assert command.readlink() == bundle.home / "tok-sign"


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_prefix_that_cannot_be(kind: str, bundle: Bundle) -> None:
    """That is said before anything is made."""
    if kind == "file":
        bundle.prefix.touch()
    else:
        only_if(os.geteuid(), "root may write everywhere")
        bundle.prefix.mkdir(mode=0o555)
    assert f"install.sh: nothing can be put into {bundle.prefix}: install as root" in bundle.install(status=2)
    assert kind == "file" or list(bundle.prefix.iterdir()) == []


def test_words_of_make(tmp_path: Path) -> None:
    """Directories may have a quote or a blank in their name, or be relative; what cannot be is one sentence."""
    need("make")
    home = tmp_path / "it's a checkout"
    shutil.copytree(ROOT / "packaging", home / "packaging")
    shutil.copy(ROOT / "Makefile", home)

    def run(*words: str) -> str:
        return subprocess.run(["make", "uninstall", *words], cwd=home, stderr=-1, text=True, check=False).stderr

    assert f"install.sh: nothing is installed in {home}/a b/it's/lib/toktools" in run("PREFIX=/it's", "DESTDIR=a b")
    assert "install.sh: the prefix must not have a blank in it" in run("PREFIX=x")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bogus"], "--bogus is not known"),
        (["--prefix"], "--prefix needs an argument"),
        (["--prefix="], "the prefix is empty"),
        (["--destdir=~/image"], "the shell did not replace the ~"),
        (["--extras=kms,foo"], "the extras are kms, pkcs11 and ssh, with a comma between two, or none: not kms,foo"),
        (["--python", "/nowhere/python3"], "is no Python 3.9 or later with venv"),
    ],
)
def test_wrong_options(bundle: Bundle, words: list[str], said: str) -> None:
    """A wrong option is one line, and nothing is installed."""
    told = bundle.install(*words, status=2)
    assert said in told
    assert told.count("\n") == 1
    assert not bundle.prefix.exists()

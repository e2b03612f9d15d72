"""A key in a PKCS#12 file: as good as one in PEM, whoever wrote it, and what is wrong with it is one clear line."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import PASS_PHRASE, Done, Shell
from hypothesis import given
from hypothesis import strategies as st
from terminal import terminal
from test_keys import LINE, assert_silent_about, openssl_signature
from test_properties import quick, run

PHRASES = {"PHRASE": PASS_PHRASE, "UTF8": "réché ✓"}
RSA = "-inkey pkcs8.pem -in cert.pem"
MODERN = "-keypbe AES-256-CBC -certpbe AES-256-CBC -macalg sha256"
NONE = "-keypbe NONE -certpbe NONE"
# What openssl pkcs12 -export makes a file of, by its name.
ENCRYPTED = {
    "default": f"{RSA} -passout env:PHRASE",
    "aes": f"{RSA} {MODERN} -passout env:PHRASE",
    "key-alone": "-inkey pkcs8.pem -nocerts -passout env:PHRASE",
    "certificate-in-the-clear": f"{RSA} -certpbe NONE -passout env:PHRASE",
    "no-mac": f"{RSA} -nomac -passout env:PHRASE",
    "3des": f"{RSA} -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1 -passout env:PHRASE",
    "rc2": f"{RSA} -legacy -keypbe PBE-SHA1-RC2-40 -certpbe PBE-SHA1-RC2-40 -macalg sha1 -passout env:PHRASE",
    "legacy": f"{RSA} -legacy -passout env:PHRASE",
    "named": f"{RSA} -name officer1 -caname x -passout env:PHRASE",
}
OPEN = {
    "empty-pass-phrase": f"{RSA} {MODERN} -passout pass:",
    "no-pass-phrase": f"{RSA} {NONE} -nomac -passout pass:",
    "no-cipher": f"{RSA} {NONE} -passout pass:",
}
OTHERS = {
    "utf8": f"{RSA} {MODERN} -passout env:UTF8",
    "no-cipher-but-a-mac": f"{RSA} {NONE} -passout env:PHRASE",
    "no-key": "-nokeys -in cert.pem -passout env:PHRASE",
    "no-key-open": f"-nokeys -in cert.pem {NONE} -nomac -passout pass:",
    "curve": "-inkey ec.pem -nocerts -passout env:PHRASE",
    "small": "-inkey rsa1024.pem -nocerts -passout env:PHRASE",
    "large": "-inkey rsa3072.pem -nocerts -passout env:PHRASE",
}
FILES = {**ENCRYPTED, **OPEN, **OTHERS}
# The library need not have these ciphers, and openssl need not either.
OLD = {"rc2", "legacy"}


@pytest.fixture(scope="session")
def folder(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with every file that openssl can make."""
    folder = shutil.copytree(keys, tmp_path_factory.mktemp("pkcs12") / "keys")
    for name, words in FILES.items():
        script = f"umask 077; openssl pkcs12 -export {words} -out {name}.p12"
        env = {**os.environ, **PHRASES}
        made = subprocess.run(["sh", "-c", script], cwd=folder, env=env, capture_output=True, check=False)
        if made.returncode:
            assert name in OLD, made.stderr
            (folder / f"{name}.p12").unlink(missing_ok=True)
    return folder


@pytest.fixture(scope="session")
def signature(keys: Path) -> bytes:
    """Return the line that openssl makes of the digest."""
    return openssl_signature(keys, "pkcs8.pem")


def signed(shell: Shell, path: Path, variable: str = "PHRASE") -> Done:
    """Sign the digest with the key in a file, and the pass phrase in a variable."""
    words: list[str | Path] = ["-k", path, "--passin", f"env:{variable}"]
    return shell.run("tok-sign", *words, stdin=LINE, env={**shell.env, **PHRASES, "WRONG": "incorrect horse"})


@pytest.mark.parametrize("name", [*ENCRYPTED, *OPEN])
def test_every_kind_signs_as_openssl(shell: Shell, folder: Path, signature: bytes, name: str) -> None:
    """Every way to write a PKCS#12 file, new or old, gives openssl's bytes without a word."""
    path = folder / f"{name}.p12"
    if not path.exists():
        pytest.skip("openssl does not make it")
    done = signed(shell, path)
    if name in OLD and "a cipher that is not supported" in done.err:
        pytest.skip("the library does not read it")
    assert done == Done(0, signature, "")


@pytest.mark.parametrize("name", OPEN)
def test_nobody_is_asked_without_need(shell: Shell, folder: Path, signature: bytes, name: str) -> None:
    """A file without a pass phrase, or with an empty one, opens without a source and without a terminal."""
    done = shell.run("tok-sign", "-k", folder / f"{name}.p12", stdin=LINE, start_new_session=True)
    assert done == Done(0, signature, "")


def test_a_pass_phrase_that_is_not_ascii(shell: Shell, folder: Path, signature: bytes) -> None:
    """A pass phrase in UTF-8 opens what openssl has closed with it."""
    assert signed(shell, folder / "utf8.p12", "UTF8") == Done(0, signature, "")


@pytest.mark.parametrize("name", ["aes", "no-cipher-but-a-mac"])
def test_the_prompt(shell: Shell, folder: Path, signature: bytes, name: str) -> None:
    """The pass phrase is asked for on the terminal, once and unseen."""
    path = folder / f"{name}.p12"
    with terminal(shell, "tok-sign", "-k", path, stdin=LINE) as session:
        session.answer(PASS_PHRASE)
        assert session.end() == Done(0, signature, "")
        assert session.shown == f"Enter pass phrase for {path}: \r\n".encode()


def test_no_terminal(shell: Shell, folder: Path) -> None:
    """Without a terminal a closed file is one clear line and a hint."""
    path = folder / "aes.p12"
    done = shell.run("tok-sign", "-k", path, stdin=LINE, start_new_session=True)
    done.check(2, f"tok-sign: {path}: there is no terminal to ask for the pass phrase\n", "hint: use --passin")
    assert (done.out, done.err.count("\n")) == (b"", 2)


@pytest.mark.parametrize(
    ("name", "variable", "said"),
    [
        ("aes", "WRONG", "wrong pass phrase"),
        ("3des", "WRONG", "wrong pass phrase"),
        ("no-mac", "WRONG", "wrong pass phrase"),
        ("utf8", "PHRASE", "wrong pass phrase"),
        ("curve", "WRONG", "wrong pass phrase"),
        ("no-key", "WRONG", "wrong pass phrase"),
        ("no-key", "PHRASE", "no private key in "),
        ("no-key-open", "PHRASE", "no private key in "),
        ("curve", "PHRASE", "the key is EC, but CloudHSM takes only RSA keys"),
        ("small", "PHRASE", "the key is RSA-1024, but CloudHSM takes RSA-2048"),
    ],
)
def test_what_cannot_sign(  # noqa: PLR0913, PLR0917
    shell: Shell, keys: Path, folder: Path, name: str, variable: str, said: str
) -> None:
    """A wrong pass phrase, no key, and a key that is none for CloudHSM are each one line without a secret."""
    path = folder / f"{name}.p12"
    done = signed(shell, path, variable).check(2, f"tok-sign: {path}: {said}")
    assert (done.out, done.err.count("\n")) == (b"", 1)
    assert "incorrect horse" not in done.err
    assert_silent_about(keys, done)


def test_a_larger_key(shell: Shell, keys: Path, folder: Path) -> None:
    """RSA-3072 signs as openssl does, with a warning."""
    done = signed(shell, folder / "large.p12").check(0, "the key is RSA-3072; CloudHSM documents only RSA-2048\n")
    assert done.out == openssl_signature(keys, "rsa3072.pem")


def test_a_file_that_others_can_read(shell: Shell, folder: Path, signature: bytes) -> None:
    """A PKCS#12 file that others can read signs with the warning that any private key gets."""
    shell.write("officer1.p12", (folder / "aes.p12").read_bytes()).chmod(0o644)
    done = signed(shell, Path("officer1.p12"))
    warning = "others can read this private key (mode 0644; chmod 600 closes it)"
    assert done == Done(0, signature, f"tok-sign: warning: officer1.p12: {warning}\n")


@pytest.mark.parametrize("name", ["aes", "no-pass-phrase"])
def test_ber(shell: Shell, folder: Path, signature: bytes, name: str) -> None:
    """A file of indefinite length, as other systems write it, signs as openssl does, without a word."""
    content = (folder / f"{name}.p12").read_bytes()
    assert content[:2] == b"\x30\x82"  # two bytes of length, in the place of which comes its end
    path = shell.write("officer1.p12", b"\x30\x80" + content[4:] + b"\0\0")
    path.chmod(0o600)
    assert signed(shell, path) == Done(0, signature, "")


# Damage.


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that each try overwrites."""
    path = tmp_path_factory.mktemp("damage") / "damaged.p12"
    path.touch(0o600)
    return path


def assert_answered(path: Path, damaged: Path, content: bytes, signature: bytes) -> None:
    """Assert that a damaged file gives the right signature or one clear line."""
    damaged.write_bytes(content)
    phrase = path.with_name("phrase")
    phrase.write_text(PASS_PHRASE)
    phrase.chmod(0o600)
    done = run("sign", "-k", damaged, "--passin", f"file:{phrase}", stdin=LINE)
    assert "internal error" not in done.err
    if done.status == 0:
        assert (done.out, done.err) == (signature, "")
    else:
        first, *hints = done.err.splitlines()
        assert (done.status, done.out) == (2, b""), done
        assert f"{damaged}: " in first
        assert [line.startswith("tok-sign: hint: ") for line in hints] in ([], [True]), done


@pytest.mark.parametrize("name", ["aes", "no-pass-phrase"])
@given(st.data())
@quick
def test_damage(folder: Path, damaged: Path, signature: bytes, name: str, choice: st.DataObject) -> None:
    """A PKCS#12 file that is altered or cut off anywhere signs right or not at all, with one clear line."""
    content = bytearray((folder / f"{name}.p12").read_bytes())
    # Most of a file is ciphertext; what its first bytes say is structure.
    places = st.one_of(st.integers(0, len(content) - 1), st.integers(0, 60))
    for place, byte in choice.draw(st.dictionaries(places, st.integers(0, 255), max_size=4)).items():
        content[place] = byte
    assert_answered(folder / f"{name}.p12", damaged, bytes(content[: choice.draw(places) or None]), signature)


@pytest.mark.parametrize("name", ["aes", "no-pass-phrase"])
def test_what_follows_the_file(folder: Path, damaged: Path, signature: bytes, name: str) -> None:
    """Bytes after the end of a PKCS#12 file do it no harm, or stop it with one clear line."""
    path = folder / f"{name}.p12"
    for more in (b"\0", b"\n", random.Random(1).randbytes(1000), path.read_bytes()):
        assert_answered(path, damaged, path.read_bytes() + more, signature)


@pytest.mark.parametrize(
    "beginning", ["3003020103", "30800201030000", "308201000201 03", "3082ffff020103", "3005020103"]
)
def test_a_file_that_only_begins_so(shell: Shell, beginning: str) -> None:
    """What has the first bytes of a PKCS#12 file and nothing else is one clear line."""
    path = shell.write("officer1.p12", bytes.fromhex(beginning))
    path.chmod(0o600)
    done = signed(shell, path).check(2, f"tok-sign: {path}: ")
    assert (done.out, done.err.count("\n")) == (b"", 1)


@pytest.mark.parametrize("name", ["aes", "no-pass-phrase"])
def test_a_cut_is_no_wrong_pass_phrase(shell: Shell, folder: Path, name: str) -> None:
    """A file that is cut off is called broken, before anybody is asked for a pass phrase."""
    path = shell.write("cut.p12", (folder / f"{name}.p12").read_bytes()[:-100])
    path.chmod(0o600)
    done = shell.run("tok-sign", "-k", path, stdin=LINE, start_new_session=True)
    done.check(2, f"tok-sign: {path}: ")
    assert "pass phrase" not in done.err

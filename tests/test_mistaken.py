"""Keys that were damaged on their way, formats that are not read, and files in each other's places: named by kind."""

from __future__ import annotations

import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import cryptography
import pytest
from conftest import ROOT, UNSIGNED, Shell, need

from toktools import mistaken

AWS_QUORUM = ROOT / "examples" / "aws-quorum"
DIGEST = b"A" * 43 + b"=\n"

Damage = Callable[[bytes], bytes]
DAMAGED: dict[str, tuple[Damage, str]] = {
    "literal": (lambda pem: pem.replace(b"\n", rb"\n"), "PEM with \\n instead of line ends"),
    "literal-crlf": (lambda pem: pem.replace(b"\n", rb"\r\n"), "PEM with \\n instead of line ends"),
    "json": (lambda pem: b'{"key": "' + pem.replace(b"\n", rb"\n") + b'"}', "PEM inside JSON"),
    "base64": (b64encode, "base64 of PEM"),
    "wrapped": (
        lambda pem: subprocess.run(["openssl", "base64"], input=pem, capture_output=True, check=True).stdout,
        "base64 of PEM",
    ),
    "utf-16": (lambda pem: pem.decode().encode("utf-16"), "PEM in UTF-16"),
    "utf-16-be": (lambda pem: pem.decode().encode("utf-16-be"), "PEM in UTF-16"),
    "quoted-mail": (lambda pem: b"".join(b"> " + line for line in pem.splitlines(keepends=True)), "PEM with something"),
    "quoted-printable": (lambda pem: pem.replace(b"=", b"=3D").replace(b"\n", b"=0A=\n"), "PEM in quoted-printable"),
    "percent": (lambda pem: quote(pem).encode(), "PEM in percent-encoding"),
    "four-dashes": (lambda pem: pem.replace(b"-----B", b"----B"), "PEM with damaged BEGIN or END lines"),
    "no-dashes": (lambda pem: pem.replace(b"-", b""), "PEM with damaged BEGIN or END lines"),
    "long-dashes": (lambda pem: pem.replace(b"--", "—".encode()), "PEM with damaged BEGIN or END lines"),
    "end-dashes": (lambda pem: pem.replace(b"-----END", b"---END"), "PEM with damaged BEGIN or END lines"),
    "cut": (lambda pem: pem[: len(pem) // 2], "PEM without its END line"),
    "headless": (lambda pem: pem.partition(b"\n")[2], "PEM without its BEGIN line"),
    "naked": (lambda pem: b"".join(pem.splitlines(keepends=True)[1:-1]), "base64 without BEGIN and END lines"),
}
HINTED = {
    "literal": r"""awk '{gsub(/\\n/, "\n")} 1' FILE""",
    "json": "jq -r .key FILE",
    "utf-16": "iconv -f UTF-16 -t UTF-8 FILE",
    "quoted-mail": r"sed 's/^[>[:blank:]]*//' FILE",
    "quoted-printable": "python3 -m quopri -d FILE",
    "base64": "openssl base64 -d -A < FILE",
    "naked": r"tr -d '\r\n' < FILE | openssl base64 -d -A",
}
"""What the hints say, run as they say it."""


@pytest.fixture
def desk(shell: Shell, keys: Path) -> Shell:
    """A folder with a private key, its public key and certificate, and the same in formats that are not read."""
    for name in ("pkcs8.pem", "pkcs1.pem", "spki.pem", "cert.pem", "pkcs8.der", "old-encrypted.pem"):
        shutil.copy(keys / name, shell.cwd / name)
        (shell.cwd / name).chmod(0o600)
    return shell


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("name", ["pkcs8.pem", "pkcs1.pem", "spki.pem", "cert.pem"])
def test_damage_is_named(desk: Shell, kind: str, name: str) -> None:
    """Whatever has happened to PEM, the message says it, for a private key, a public one and a certificate."""
    damage, said = DAMAGED[kind]
    path = desk.write("bad", damage(desk.read(name)))
    path.chmod(0o600)
    option = ("tok-sign", "-k") if name.startswith("pkcs") else ("tok-verify", "-p")
    done = desk.run(*option, "bad", *(["f.json"] if option[1] == "-p" else []), stdin=DIGEST)
    assert done.check(2, f"PEM or DER: {said}").out == b""
    assert "\n" in done.err
    assert desk.read("pkcs8.pem").splitlines()[3].decode() not in done.err


@pytest.mark.parametrize("kind", HINTED)
def test_the_hint_mends_it(desk: Shell, kind: str) -> None:
    """What the hint says makes a key of it that is read."""
    need(HINTED[kind].split()[0])
    desk.write("FILE", DAMAGED[kind][0](desk.read("pkcs8.pem")))
    desk.sh(f"umask 077; {HINTED[kind]} > mended").check(0)
    wanted = desk.run("tok-sign", "-k", "pkcs8.pem", stdin=DIGEST).check(0)
    assert desk.run("tok-sign", "-k", "mended", stdin=DIGEST).check(0) == wanted


def test_an_old_encrypted_key_and_openssh_s_too(desk: Shell) -> None:
    """Formats with readers of their own are named as well."""
    need("ssh-keygen")
    desk.sh("cp pkcs8.pem own; ssh-keygen -q -p -f own -N ''").check(0)
    for name in ("old-encrypted.pem", "own"):
        assert b"BEGIN" in desk.read(name)
        desk.write("bad", desk.read(name).replace(b"\n", rb"\n"))
        desk.run("tok-sign", "-k", "bad", stdin=DIGEST).check(2, "PEM with \\n instead of line ends")


OTHER_FORMATS = {
    "openssl req -new -key pkcs8.pem -subj /CN=a -out bad": "a certificate request",
    "openssl req -new -key pkcs8.pem -subj /CN=a -outform DER -out bad": "a certificate request",
    "openssl crl2pkcs7 -nocrl -certfile cert.pem -out bad": "a PKCS#7 file",
    "openssl crl2pkcs7 -nocrl -certfile cert.pem -outform DER -out bad": "a PKCS#7 file",
    "openssl ecparam -name prime256v1 -out bad": "parameters of a kind of key",
    "chmod 600 pkcs8.pem; ssh-keygen -e -f pkcs8.pem > bad": "a public key in the format of RFC 4716",
    "echo PuTTY-User-Key-File-3: ssh-rsa > bad": "a key of PuTTY",
    "echo '-----BEGIN PGP PRIVATE KEY BLOCK-----' > bad": "a key of PGP",
    """echo '{"kty": "RSA", "n": "x"}' > bad""": "a key in JSON Web Key format",
    "od -An -v -tx1 pkcs8.der > bad": "hexadecimal digits of DER",
    "echo '<!DOCTYPE html>' > bad": "an HTML page",
    "cp f.json bad": "a token file",
    "tok-extract f.json > bad": "digests",
    "tok-extract -n 1 -r f.json > bad": "a raw digest",
    "tok-extract f.json | tok-sign -k pkcs8.pem > bad": "signatures",
    "tok-extract -n 1 -r f.json | tok-sign -r -k pkcs8.pem > bad": "raw bytes of the size of a signature",
}


@pytest.mark.parametrize("script", OTHER_FORMATS)
def test_other_formats_are_named(desk: Shell, script: str) -> None:
    """What is no key is named, where the private key is wanted and where the public one is."""
    if "ssh-keygen" in script:
        need("ssh-keygen")
    desk.sh(script).check(0)
    desk.run("tok-sign", "-k", "bad", stdin=DIGEST).check(2, f" in PEM or DER: {OTHER_FORMATS[script]}")
    desk.run("tok-verify", "-p", "bad", "f.json").check(2, f" in PEM or DER: {OTHER_FORMATS[script]}")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("cp pkcs8.pem bad", "PEM with a PRIVATE KEY, not a token file"),
        ("cp cert.pem bad", "PEM with a CERTIFICATE, not a token file"),
        ("cp pkcs8.der bad", "a key or a certificate, not a token file"),
        ("chmod 600 pkcs8.pem; ssh-keygen -y -f pkcs8.pem > bad", "a key or a certificate, not a token file"),
        ("tok-extract f.json > bad", "digests, not a token file"),
        ("tok-extract f.json | tok-sign -k pkcs8.pem > bad", "signatures, not a token file"),
        ("openssl base64 -in f.json > bad", "base64 of a token file, not a token file"),
    ],
)
def test_what_is_no_token_file_is_named(desk: Shell, script: str, said: str) -> None:
    """Keys and streams in the place of a token file, in every command that takes one."""
    if "ssh-keygen" in script:
        need("ssh-keygen")
    desk.sh(script).check(0)
    for command in ("tok-extract bad", "tok-inspect bad", "tok-verify -p spki.pem bad", "tok-merge bad bad"):
        assert desk.run(*command.split()).check(2, f": bad: {said}\n").out == b""


def test_a_key_in_the_stream_is_named(desk: Shell) -> None:
    """A key in the place of digests or signatures."""
    desk.run("tok-sign", "-k", "pkcs8.pem", stdin=desk.read("pkcs8.pem")).check(2, "line 1: a key")
    desk.run("tok-merge", "f.json", "spki.pem").check(2, "spki.pem: a key")


READS_SLOPPY_PEM = 45
"""The version of cryptography from which on the library itself reads PEM without line ends."""


def test_what_is_read_stays_read(desk: Shell) -> None:
    """Other line ends or none, quotes, words around the key, a byte-order mark and empty lines do no harm."""
    pem = desk.read("pkcs8.pem")
    wanted = desk.run("tok-sign", "-k", "pkcs8.pem", stdin=DIGEST).check(0).out
    sloppy = (pem.replace(b"\n", end) for end in (b"\r\n", b"\r", b" ", b"", b"\n    "))
    for content in (*sloppy, b'"' + pem + b'"', b"my key:\n\n" + pem + b"\nthat is all\n", b"\xef\xbb\xbf" + pem):
        desk.write("fine", content).chmod(0o600)
        done = desk.run("tok-sign", "-k", "fine", stdin=DIGEST)
        if done.status and int(cryptography.__version__.partition(".")[0]) < READS_SLOPPY_PEM:
            done.check(2, "fine: no private key in PEM or DER: PEM ")
        else:
            assert done.check(0).out == wanted
    assert UNSIGNED.read_bytes() == desk.read("f.json")


HOSTILE = [
    b" ",
    b"\n",
    b"BEGIN ",
    b"-----BEGIN KEY",
    b"-----BEGIN A ",
    b"A",
    b"A ",
    b"{",
    b"30",
    b"-",
    b">",
    b"age1",
    b'{"',
    b"\\n",
    b"=",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_file_takes_long_to_name(piece: bytes) -> None:
    """Whatever is repeated in a file, to name it takes no time that grows with the square of its size."""
    began = time.process_time()
    for content in (piece * (1 << 20), piece * (1 << 20) + b"!", b"-----BEGIN PRIVATE KEY-----" + piece * (1 << 20)):
        mistaken.refuse("f", content, "no key")
        mistaken.not_token_file(content)
    assert time.process_time() - began < 3


def test_a_certificate_is_no_signature(desk: Shell) -> None:
    """A certificate where a signature belongs is named; certutil's armour, with the same lines, is named as before."""
    done = desk.run("tok-merge", "f.json", "cert.pem").check(
        2, "cert.pem: a certificate, not base64; nothing written\n"
    )
    assert done.err.endswith("tok-merge: hint: a certificate goes to -p\n")
    armour = b"-----BEGIN CERTIFICATE-----\r\n%s\r\n-----END CERTIFICATE-----\r\n" % b64encode(b"\xa5" * 256)
    desk.write("armour", armour)
    desk.run("tok-merge", "-n", "1", "f.json", "armour").check(
        2, "text between BEGIN and END lines", "grep -v -e -----"
    )


def test_a_signature_is_no_copy(desk: Shell) -> None:
    """With --approvals, a signature is refused with the options that take it."""
    shutil.copy(AWS_QUORUM / "user-management.token", desk.cwd / "admin.token")
    for content in (b64encode(b"\xa5" * 256) + b"\n", b"\xa5" * 256):
        desk.write("signature", content)
        done = desk.run("tok-merge", "--approvals", "admin.token", "signature").check(2, ", not a token file")
        assert done.err.endswith("for a signature, use -u USER -R ROLE instead\n")


@pytest.mark.parametrize("command", ["tok-inspect", "tok-extract", "tok-verify", "tok-merge -i"])
def test_a_file_named_like_an_option(desk: Shell, command: str) -> None:
    """A file whose name begins with a hyphen is named so that it is no option; a word that is no file is not shown."""
    shutil.copy(UNSIGNED, desk.cwd / "-x.json")
    done = desk.run(*command.split(), "-x.json").check(2, "option -x not recognized\n")
    assert done.err.endswith("hint: for the file -x.json, write ./-x.json\n")
    assert "hunter2" not in desk.run(*command.split(), "-x.hunter2").check(2).err


def test_an_empty_key_is_empty(desk: Shell) -> None:
    """The null device is empty, also where standard input is the null device too."""
    for command in (["tok-verify", "-p", "/dev/null", "f.json"], ["tok-sign", "-k", "/dev/null"]):
        done = desk.run(*command, stdin=subprocess.DEVNULL)
        done.check(2, f"{command[0]}: /dev/null: an empty file, not a key\n")
    secret = ["--passin", "file:/dev/null"]
    done = desk.run("tok-sign", "-k", "old-encrypted.pem", *secret, stdin=subprocess.DEVNULL)
    done.check(2, "old-encrypted.pem: the pass phrase is empty\n")


def test_standard_output_needs_no_name(desk: Shell) -> None:
    """Whoever names the pipe of standard output as the file to write is told to leave the option out."""
    done = desk.run("tok-merge", "-n", "1", "-o", "/dev/stdout", "f.json", stdin=b64encode(b"\xa5" * 256))
    done.check(2, "/dev/stdout: not a regular file\n", "hint: leave out -o to write to standard output\n")
    desk.run("tok-merge", "-n", "1", "-o", ".", "f.json", stdin=b64encode(b"\xa5" * 256)).check(
        2, ".: not a regular file\n"
    )
    assert "hint" not in desk.run("tok-merge", "-i", ".", stdin=b"").check(2, ".: not a regular file").err

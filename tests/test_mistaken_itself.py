"""What stands in the place of a key or a token file, in this process: each by its name, and nothing by another's."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote

import pytest
from conftest import UNSIGNED, rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from toktools import mistaken

KEY = rsa_key()
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
DER = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
NAKED = b"".join(PEM.splitlines(keepends=True)[1:-1])
RAW = bytes(range(128, 256)) * 4
TOKENS = UNSIGNED.read_bytes()
HEADERS = PEM.replace(b"KEY-----\n", b"KEY-----\nA: b\nC: d\n\n", 1)


def rows(*sizes: int) -> bytes:
    return b"".join(b64encode(RAW[:size]) + b"\n" for size in sizes)


def said_alone(value: object) -> str:
    """Name a row by what is said: its content is another one in each process."""
    return value if isinstance(value, str) else "content"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PEM, ""),
        (HEADERS, ""),
        (PEM.replace(b"\n", b"\r\n"), ""),
        (DER, ""),
        (PEM.decode().encode("utf-16"), "PEM in UTF-16"),
        (PEM.decode().encode("utf-16-le"), "PEM in UTF-16"),
        (PEM.decode().encode("utf-16-be"), "PEM in UTF-16"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "a public key in the format of RFC 4716"),
        (b"\t---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", "a private key in the format of RFC 4716"),
        (b"PuTTY-User-Key-File-3: ssh-rsa\n", "a key of PuTTY"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "a key of PGP"),
        (b"# created\nAGE-SECRET-KEY-1\n", "a key of age"),
        (b"age1" + b"q" * 58 + b"\n", "a key of age"),
        (b"age1" + b"q" * 57 + b"\n", ""),
        (b"\xfe\xed\xfe\xed\0\0", "a Java keystore"),
        (b'{"n": "x",\n"kty": "RSA"}', "a key in JSON Web Key format"),
        (b" <RSAKeyValue>", "a key in XML"),
        (b'{"key":\n"' + PEM.replace(b"\n", rb"\n") + b'"}', "PEM inside JSON"),
        (PEM.replace(b"\n", rb"\n"), "PEM with \\n instead of line ends"),
        (PEM.replace(b"\n", rb"\r\n"), "PEM with \\n instead of line ends"),
        (PEM.replace(b"=", b"=3D").replace(b"\n", b"=0A=\n"), "PEM in quoted-printable"),
        (quote(PEM).encode(), "PEM in percent-encoding"),
        (b"> " + PEM.replace(b"\n", b"\n> "), "PEM with something before its lines"),
        (PEM.replace(b"-----B", b"----B"), "PEM with damaged BEGIN or END lines"),
        (PEM.replace(b"-----END", b"---END"), "PEM with damaged BEGIN or END lines"),
        (PEM[: len(PEM) // 2], "PEM without its END line"),
        (PEM.partition(b"\n")[2], "PEM without its BEGIN line"),
        (PEM.lower(), "PEM with lines for BEGIN and END in small letters"),
        (PEM.replace(b"BEGIN P", b"BEGIN RSA P"), "PEM whose BEGIN and END lines do not match"),
        (PEM.replace(NAKED, NAKED[1:]), "PEM whose body is damaged"),
        (PEM.replace(NAKED, b"!" + NAKED[1:]), "PEM whose body is damaged"),
        (PEM.replace(NAKED, NAKED[:-1].replace(b"\n", b" ") + b"\n"), "PEM whose body is damaged"),
        (HEADERS.replace(NAKED, NAKED[4:]), ""),
        (PEM + PEM.replace(NAKED, NAKED[1:]), "PEM whose body is damaged"),
        (b64encode(PEM), "base64 of PEM"),
        (NAKED, "base64 without BEGIN and END lines"),
        (b64encode(DER), "base64 without BEGIN and END lines"),
        (DER.hex().encode() + b"\n", "hexadecimal digits of DER"),
        (b"0x" + DER.hex().encode(), "hexadecimal digits of DER"),
        (b"30:82:" + b"ab:" * 40 + b"ab", "hexadecimal digits of DER"),
        (b"30 82 1", ""),
    ],
    ids=said_alone,
)
def test_keys(content: bytes, said: str) -> None:
    """A key that was damaged on its way, or is in another format, is named; one as it should be is not."""
    found = mistaken.key_like(content)
    assert (found[0] if found else "") == said
    assert not found or found[1]
    assert mistaken.kind_of(content) is None or content[:2] == b"\xff\xfe"
    error = mistaken.refuse("k", content, "no key")
    assert (error.message, error.hint) == ((f"k: no key: {found[0]}", found[1]) if found else ("k: no key", ""))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TOKENS, "a token file"),
        (b' {"Digest" : 1}', "a token file"),
        (b'{"digest": 1}', ""),
        ("{}".encode("utf-16"), "a text in UTF-16"),
        (b"\xfe\xff\0{", "a text in UTF-16"),
        (rows(32), "digests"),
        (rows(32, 32), "digests"),
        (rows(32, 256), ""),
        (rows(33), ""),
        (rows(256), "signatures"),
        (rows(256, 384, 512), "signatures"),
        (rows(256, 257), ""),
        (RAW[:32], "a raw digest"),
        (RAW[:31], ""),
        (RAW[:33], ""),
        (b"x" * 32, ""),
        (b"\x30\x82" + RAW[:30], ""),
        *((RAW[:size], "raw bytes of the size of a signature") for size in (256, 384, 512)),
        (RAW[:255], ""),
        (b"-" * 256, ""),
        (b"\x30\x82" + RAW[:254], ""),
        (b64encode(TOKENS), "base64 of a token file"),
        (b" <!DOCTYPE html>", "an HTML page"),
        (b"<HTML>", "an HTML page"),
        (b"PK\3\4", "a zip archive"),
        (b"\x1f\x8b\x08", "a gzip file"),
        (b"", ""),
        (b" \n", ""),
        (b"\0", ""),
    ],
    ids=said_alone,
)
def test_other_files(content: bytes, said: str) -> None:
    """What is at hand at a login is named, in the place of a key and in that of a token file."""
    found = mistaken.kind_of(content)
    assert (found[0] if found else "") == said
    assert mistaken.key_like(content) is None
    error = mistaken.refuse("k", content, "no key")
    assert (error.message, error.hint) == ((f"k: no key: {found[0]}", found[1]) if found else ("k: no key", ""))
    no_tokens = mistaken.not_token_file(content)
    if content[:1] == b"\x30":
        assert no_tokens is not None
        assert no_tokens.message == "a key or a certificate, not a token file"
    elif content.lstrip()[:1] == b"{" or not found:
        assert no_tokens is None
    else:
        assert no_tokens is not None
        assert (no_tokens.message, no_tokens.hint) == (f"{found[0]}, not a token file", found[1])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PEM, "PEM with a PRIVATE KEY, not a token file"),
        (b"a\n" + PEM.replace(b"PRIVATE", b"RSA PRIVATE"), "PEM with a RSA PRIVATE KEY, not a token file"),
        (DER, "a key or a certificate, not a token file"),
        (b"ssh-rsa AAAAB3", "a key or a certificate, not a token file"),
        (PEM.partition(b"\n")[2], "a key or a certificate, not a token file"),
        (NAKED, "a key or a certificate, not a token file"),
    ],
    ids=said_alone,
)
def test_keys_in_the_place_of_a_token_file(content: bytes, said: str) -> None:
    """They are named with their place; damaged JSON is told by the place where it is damaged."""
    error = mistaken.not_token_file(content)
    assert error is not None
    assert error.message == said
    assert error.hint.startswith("tok-sign -k takes a private key")
    for begin in (b"{", b" ["):
        assert mistaken.not_token_file(begin + content) is None


def test_only_the_beginning_is_looked_at() -> None:
    """After 65,536 bytes nothing is named any more."""
    for blanks, found in ((65_000, True), (66_000, False)):
        content = b"\n" * blanks + b"-----BEGIN PGP PRIVATE KEY BLOCK-----"
        assert bool(mistaken.key_like(content)) == found
        assert (mistaken.not_token_file(content) is not None) == found
    begin = b"AGE-SECRET-KEY-"
    assert mistaken.key_like(b"\n" * (65_536 - len(begin)) + begin)
    assert not mistaken.key_like(b"\n" * (65_537 - len(begin)) + begin)

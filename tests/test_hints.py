"""What stands in the place of a key, a token file, a digest or a signature: each kind by its name, with a hint."""

from __future__ import annotations

from base64 import b64encode, encodebytes, urlsafe_b64encode

import pytest
from conftest import UNSIGNED, rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from toktools import encoding, hints, records
from toktools.errors import ToktoolsError
from toktools.tokens import jsonfile, tokenfile

KEY = rsa_key()
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
PKCS1 = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
DER = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
NAKED = b"".join(PEM.splitlines(keepends=True)[1:-1])
HEADERS = PEM.replace(b"KEY-----\n", b"KEY-----\nA: b\nC: d\n\n", 1)
TOKENS = UNSIGNED.read_bytes()
# Bytes that show both characters that base64url replaces.
SIGNATURE = bytes([*range(254, -1, -1), 255])
TEXT = b64encode(SIGNATURE)
DIGEST_HEX = bytes(range(32)).hex().encode()
ARMOUR = "text between BEGIN and END lines"

# What is no record, the name of its kind, and that in the place of a key and of a token file, if it has another one.
RECORDS = {
    "hexadecimal": (SIGNATURE.hex().encode(), "hexadecimal digits"),
    "in capitals": (SIGNATURE.hex().upper().encode(), "hexadecimal digits"),
    "without a digit": (b"deadbeef" * 64, "hexadecimal digits"),
    "with an x": (b"0x" + DIGEST_HEX, "hexadecimal digits"),
    "with colons": (SIGNATURE.hex(":").encode(), "hexadecimal digits"),
    "decimal": (str([*SIGNATURE]).encode(), "bytes as decimal numbers"),
    "decimal, signed": (str([byte - 128 for byte in SIGNATURE]).encode(), "bytes as decimal numbers"),
    "decimal, spaces": (" ".join(map(str, SIGNATURE)).encode(), "bytes as decimal numbers"),
    "certutil": (b"-----BEGIN CERTIFICATE-----\r\n" + encodebytes(SIGNATURE), ARMOUR),
    "PGP signature": (b"-----BEGIN PGP SIGNATURE-----\n\n" + encodebytes(SIGNATURE), "a PGP signature"),
    "PGP message": (b"-----BEGIN PGP MESSAGE-----\n\n" + encodebytes(SIGNATURE), "a PGP message"),
    "SSH": (b"-----BEGIN SSH SIGNATURE-----\n" + encodebytes(SIGNATURE), "an SSH signature"),
    "CMS": (b"-----BEGIN CMS-----\n" + encodebytes(SIGNATURE), "a CMS or PKCS#7 signature"),
    "a key": (PEM, "a private key"),
    "a public key": (PUBLIC, "a public key"),
    "a certificate": (b"-----BEGIN CERTIFICATE-----\nMIIC" + TEXT, "a certificate"),
    "base64url": (urlsafe_b64encode(SIGNATURE), "base64url"),
    "without padding": (urlsafe_b64encode(SIGNATURE).rstrip(b"="), "base64url"),
    "Vault": (b"vault:v12:" + TEXT, "a signature of HashiCorp Vault"),
    "two": (TEXT + b" " + TEXT, "several on one line"),
    "two with a comma": (TEXT + b"," + TEXT, "several on one line"),
    "two run together": (TEXT + TEXT, "several on one line"),
    "a mark": (b"\xef\xbb\xbf" + TEXT, "text after a byte-order mark"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "text in UTF-16"),
    "big end first": (TEXT.decode().encode("utf-16-be"), "text in UTF-16"),
    "after a line feed": (b"\0" + TEXT.decode().encode("utf-16-le"), "text in UTF-16"),
    "sha256sum": (DIGEST_HEX + b"  token1.bin", "a hexadecimal digest and other words"),
    "openssl dgst": (b"SHA2-256(stdin)= " + DIGEST_HEX, "a hexadecimal digest and other words"),
    "quotes": (b'"' + TEXT + b'",', "text in quotes"),
    "curly quotes": ("\u201c".encode() + TEXT + "\u201d".encode(), "text with curly quotes or long dashes"),
    "spaces": ("\u00a0".encode() + TEXT, "text with no-break or invisible spaces"),
    "HTML": (TEXT.replace(b"+", b"&#43;"), "text with HTML entities, such as &quot;"),
    "a fence": (b"```", "text between code fences"),
    "the AWS CLI": (b'{\n    "KeyId": "x",\n    "Signature": "' + TEXT + b'"}', "JSON with a signature"),
    "az": (b'{"algorithm": "RS256", "keyId": "x", "signature": "' + TEXT + b'"}', "JSON with a signature"),
    "a line of it": (b'    "Signature": "' + TEXT + b'"', "JSON with a signature"),
    "YAML": (b"Signature: " + TEXT, "JSON with a signature"),
    "text of the AWS CLI": (
        b"arn:aws:kms:us-east-1:1:key/x\t" + TEXT + b"\tRSASSA_PKCS1_V1_5_SHA_256",
        "a signature and other words",
    ),
    "JSON": (b"{", "JSON"),
    "mail": (b"> " + TEXT, "text of a quoted mail"),
    "quoted-printable": (TEXT.replace(b"=", b"=3D"), "text in quoted-printable"),
}
OTHERS = {
    "null": (b"null", "no signature"),
    "None": (b"None", "no signature"),
    "base64": (b64encode(TEXT), "base64 of base64"),
    "wrapped": (b64encode(encodebytes(SIGNATURE)), "base64 of base64"),
    "hexadecimal": (b64encode(SIGNATURE.hex().upper().encode()), "base64 of base64"),
    "words": (b64encode(b"The quick brown fox jumps over the dog"), "base64 of text"),
    "two wrapped": (2 * encodebytes(SIGNATURE), "base64 wrapped into lines"),
}


@pytest.mark.parametrize(
    ("text", "said"),
    [*((text, f"{kind}, not base64") for text, kind in RECORDS.values()), *OTHERS.values()],
    ids=[*RECORDS, *OTHERS],
)
def test_records(text: bytes, said: str) -> None:
    """What people have in place of the base64 of a digest or signature is named, on a line and in a file."""
    for decode in (records.signature, records.digest, records.signature_file, records.wrapped_signature):
        with pytest.raises(ToktoolsError) as raised:
            decode(text)
        assert raised.value.message == said
        assert raised.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"1" * 31, "not canonical base64"),
        (b"1" * 32, "hexadecimal digits, not base64"),
        (b"\xfb" * 31, "not base64"),
        (b"\xfb" * 32, "raw bytes, not base64"),
        (b"-" * 31, "not base64"),
        (b"-" * 32, "base64url, not base64"),
        (encoding.encode(b"a" * 31), "31 bytes, but a SHA-256 digest has 32"),
        (encoding.encode(b"a" * 32), "base64 of base64"),
        ("d\u00e9j\u00e0".encode(), "not base64"),
    ],
)
def test_how_much_text_is_named(text: bytes, said: str) -> None:
    """From 32 characters on what stands for something else is named."""
    with pytest.raises(ToktoolsError) as raised:
        records.digest(text)
    assert raised.value.message == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PEM, ""),
        (HEADERS, ""),
        (PEM.replace(b"\n", b"\r\n"), ""),
        (DER, ""),
        (PEM.decode().encode("utf-16"), "text in UTF-16"),
        (PEM.decode().encode("utf-16-le"), "text in UTF-16"),
        (b"age-encryption.org/v1\n", "a file encrypted with age"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "a file encrypted with age"),
        (b"$ANSIBLE_VAULT;1.1;AES256\n", "a file encrypted with ansible-vault"),
        (b'{"data": "ENC[AES256_GCM,data:x]"}', "a file encrypted with sops"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "a public key of RFC 4716"),
        (b"PuTTY-User-Key-File-3: ssh-rsa\n", "a key of PuTTY"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\n" + NAKED, "a certificate request"),
        (b"-----BEGIN PKCS7-----\n" + NAKED, "a PKCS#7 file"),
        (b"\x30\x82\x01\x01\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", "a PKCS#7 file"),
        (b'{"key":\n"' + PEM.replace(b"\n", rb"\n") + b'"}', "PEM inside JSON"),
        (PEM.replace(b"\n", rb"\n"), "PEM with \\n instead of line ends"),
        (PEM.replace(b"\n", rb"\r\n"), "PEM with \\n instead of line ends"),
        (PEM.replace(b"=", b"=3D").replace(b"\n", b"=0A=\n"), "PEM in quoted-printable"),
        (PEM.replace(b"-----B", "\u2014\u2014-B".encode()), "PEM with curly quotes or long dashes"),
        (b"> " + PEM.replace(b"\n", b"\n> "), "PEM of a quoted mail"),
        (b"  " + PEM.replace(b"\n", b"\n  "), "PEM with something before its lines"),
        (PEM.replace(b"\n", "\n\u00a0".encode()), "PEM with no-break or invisible spaces"),
        (b"```\n" + PEM + b"```\n", "PEM between code fences"),
        (PEM.replace(b"-----B", b"----B"), "PEM without its BEGIN or END line"),
        (PEM.replace(b"-----END", b"---END"), "PEM without its BEGIN or END line"),
        (PEM.replace(b"KEY-----", b"KEY---"), "PEM without its BEGIN or END line"),
        (PEM[: len(PEM) // 2], "PEM without its BEGIN or END line"),
        (PEM.partition(b"\n")[2], "PEM without its BEGIN or END line"),
        (PEM.replace(NAKED, NAKED[1:]), ""),
        (b64encode(PEM), "base64 of PEM"),
        (NAKED, "base64 without BEGIN and END lines"),
        (DER.hex().encode() + b"\n", "hexadecimal digits"),
        (TOKENS, "a token file"),
        (encoding.line(bytes(32)) * 2, "digests"),
        (encoding.line(SIGNATURE) + encoding.line(bytes(512)), "signatures"),
        (SIGNATURE, ""),
        (b" <!DOCTYPE html>", "an HTML page"),
        (PEM.replace(b"PRIVATE ", "PRIVATE\u00a0".encode()), "PEM with no-break or invisible spaces"),
        (PEM.replace(b"PRIVATE", b"RSA PRIVATE"), "PEM with the label of another format"),
        (PKCS1.replace(b"RSA ", b""), "PEM with the label of another format"),
        (DER + b"\n", "DER with something behind its end"),
        (DER[:-1], "DER that is cut short"),
        (b'{"d": "x", "kty": "RSA"}', "a JSON Web Key"),
        (b"\xfe\xed\xfe\xed\0\0\0\2", "a Java key store"),
        (b"Salted__" + SIGNATURE, "a file encrypted with openssl enc"),
        (b64encode(b"Salted__" + SIGNATURE), "a file encrypted with openssl enc"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n-----END PGP PRIVATE KEY BLOCK-----\n", "a key of PGP"),
        (b" \n", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_keys(content: bytes, said: str) -> None:
    """A key that was damaged on its way, is in another format, or is no key, is named; one as it should be is not."""
    error = hints.not_key("k", content, "private key")
    assert error.message == (f"k: {said}, not a private key" if said else "k: no private key can be read")
    assert bool(error.hint) == bool(said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PEM, "a private key"),
        (b"a\n" + PEM.replace(b"PRIVATE", b"RSA PRIVATE"), "a private key"),
        (PUBLIC, "a public key"),
        (b"ssh-rsa AAAAB3", "a public key"),
        (b"-----BEGIN CERTIFICATE-----\nMIIC", "a certificate"),
        (DER, "a key or a certificate in DER"),
        (TOKENS.decode().encode("utf-16"), "text in UTF-16"),
        (b"\xef\xbb\xbf" + TOKENS, "text after a byte-order mark"),
        (encoding.line(bytes(32)), "digests"),
        (encoding.line(SIGNATURE), "signatures"),
        (b"<HTML>", "an HTML page"),
        (TOKENS.replace(b"=", b"=3D").replace(b"un", b"=\nun"), "JSON in quoted-printable"),
        (TOKENS.replace(b'"', "\u201c".encode()), "JSON with curly quotes or long dashes"),
        (b"> " + TOKENS.replace(b"\n", b"\n> "), "JSON of a quoted mail"),
        (TOKENS.replace(b" ", "\u00a0".encode()), "JSON with no-break or invisible spaces"),
        (TOKENS.replace(b'"', b"&quot;"), "JSON with HTML entities, such as &quot;"),
        (b"```json\n" + TOKENS + b"```\n", "JSON between code fences"),
        (
            TOKENS.replace(b'"signed": ""', b'"signed": "' + encodebytes(SIGNATURE) + b'"'),
            "JSON with base64 wrapped into lines",
        ),
        (TOKENS[:-3], ""),
        (b"nonsense", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_token_files(content: bytes, said: str) -> None:
    """Keys, streams, other files and damaged JSON in place of a token file are named, if the parser refuses them."""
    with pytest.raises(jsonfile.NotJsonError) as raised:
        tokenfile.parse(content)
    assert raised.value.message.startswith(f"{said}, not a token file" if said else "not JSON: line ")
    assert bool(raised.value.hint) == bool(said)


def test_names_of_keys() -> None:
    """What other tools call a key has a hint; the path of a file has none."""
    for name in (
        "arn:aws:kms:us-east-1:1:key/x",
        "alias/x",
        "file:x",
        "~/x",
        "gcpkms://x",
        "azurekms:x",
        "hashivault:x",
        PEM.decode(),
        b64encode(PEM).decode(),
        b64encode(DER).decode(),
    ):
        assert hints.mistyped_key(name)
    assert hints.mistyped_key("officer1.key") == ""


@pytest.mark.parametrize(
    "piece",
    ["", " ", "\n", "BEGIN ", "-----BEGIN A ", "A", "A ", "[", "1,", "30", "-", ">", '{"', "\\n", "=", "-aa", '"A\n'],
)
def test_no_text_takes_long_to_name(piece: str) -> None:
    """Whatever is repeated in a file, to name it takes no time that grows with the square of its size: hours, here."""
    some = piece.encode() * (1 << 20)
    for content in (some, some + b"!", b"-----BEGIN PRIVATE KEY-----" + some, b'{"tokens' + some):
        assert hints.not_key("f", content, "key").message
        assert hints.not_base64(b"-" + content.replace(b"A", b" ")).message
        hints.not_token_file(content)

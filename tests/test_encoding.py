"""Canonical base64, and the sizes of digests and signatures."""

import base64
import random

import pytest

from toktools import encoding
from toktools.errors import ToktoolsError

DIGEST = bytes(range(32))
SIGNATURE = bytes(range(256))


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        # RFC 4648 section 10
        (b"f", b"Zg=="),
        (b"fo", b"Zm8="),
        (b"foo", b"Zm9v"),
        (b"foob", b"Zm9vYg=="),
        (b"fooba", b"Zm9vYmE="),
        (b"foobar", b"Zm9vYmFy"),
        # the two characters that the URL-safe alphabet replaces
        (b"\xfb\xff", b"+/8="),
    ],
)
def test_both_ways(plain: bytes, text: bytes) -> None:
    """The test vectors of RFC 4648 are encoded and decoded as printed there."""
    assert encoding.encode(plain) == text
    assert encoding.decode(text) == plain


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "empty"),
        (b"QQ==\n", "white space"),
        (b" QQ==", "white space"),
        (b"Q Q==", "white space"),
        (b"QQ\r\n==", "white space"),
        (b"\t", "white space"),
        (b"-_8=", "not base64"),
        (b"QQ==\0", "not base64"),
        (b"Q\0Q==", "not base64"),
        (b"\xff\xfe", "not base64"),
        (b"\xef\xbb\xbfQQ==", "not base64"),
        (b"QR==", "not canonical"),
        (b"Zm9=", "not canonical"),
        (b"QQ", "not canonical"),
        (b"QQ=", "not canonical"),
        (b"QQ===", "not canonical"),
        (b"QQ==QQ==", "not canonical"),
        (b"=QQ=", "not canonical"),
        (b"====", "not canonical"),
        (b"A", "not canonical"),
        (b"Zm9vA", "not canonical"),
    ],
)
def test_refused_base64(text: bytes, said: str) -> None:
    """What is not canonical base64 is refused, and the message says what kind of wrong it is."""
    with pytest.raises(ToktoolsError, match=said):
        encoding.decode(text)


def test_stricter_than_the_library() -> None:
    """The ending QR== is refused, though the strict decoder of the standard library takes it."""
    assert base64.b64decode(b"QR==", validate=True) == b"A"
    with pytest.raises(ToktoolsError, match="not canonical") as caught:
        encoding.decode(b"QR==")
    assert caught.value.hint == "it is cut short, or its padding or last character is wrong (RFC 4648)"


def test_digest_of_32_bytes() -> None:
    """A digest of 32 bytes is taken."""
    assert encoding.digest(base64.b64encode(DIGEST)) == DIGEST


@pytest.mark.parametrize("count", [1, 20, 31, 33, 48, 64])
def test_digest_of_another_size(count: int) -> None:
    """A digest that is not 32 bytes long is refused with its size."""
    with pytest.raises(ToktoolsError, match=f"^{encoding.size(count)}, but a SHA-256 digest has 32$") as caught:
        encoding.digest(base64.b64encode(bytes(count)))
    assert not caught.value.hint


@pytest.mark.parametrize("text", [DIGEST.hex().encode(), DIGEST.hex().upper().encode()])
def test_digest_in_hexadecimal(text: bytes) -> None:
    """A digest in hexadecimal, which happens to be valid base64, is refused with a hint."""
    with pytest.raises(ToktoolsError, match=r"^hexadecimal digits, not base64$"):
        encoding.digest(text)


@pytest.mark.parametrize("count", [256, 264, 384, 512, 2048])
def test_signature_of_a_right_size(count: int) -> None:
    """A signature as long as the modulus of an RSA key of 2,048 to 16,384 bits is taken."""
    assert encoding.signature(base64.b64encode(bytes(count))) == bytes(count)


@pytest.mark.parametrize("count", [1, 32, 128, 255, 257, 2047, 2049, 2056])
def test_signature_of_a_wrong_size(count: int) -> None:
    """A signature that no such key can have made is refused with its size; 257 bytes are one and a newline."""
    with pytest.raises(ToktoolsError, match=f"^wrong size: {encoding.size(count)}, but an RSA-2048 signature has 256$"):
        encoding.signature(base64.b64encode(bytes(count)))


@pytest.mark.parametrize(("width", "hinted"), [(60, False), (64, True), (76, True), (80, False)])
def test_wrapped_signature(width: int, hinted: bool) -> None:  # noqa: FBT001
    """The first line of a base64 that openssl (64) or base64 (76) wrapped is refused with a hint at -w0."""
    with pytest.raises(ToktoolsError) as caught:
        encoding.signature(base64.b64encode(SIGNATURE)[:width])
    assert ("-w0" in caught.value.hint) == hinted


@pytest.mark.parametrize(
    "content",
    [
        SIGNATURE,
        base64.b64encode(SIGNATURE),
        base64.b64encode(SIGNATURE) + b"\n",
        b" \t" + base64.b64encode(SIGNATURE) + b"\r\n\n",
        base64.encodebytes(SIGNATURE),
        base64.encodebytes(SIGNATURE).replace(b"\n", b"\r\n"),
        b"\n\t ".join(base64.b64encode(SIGNATURE)[at : at + 64] for at in range(0, 344, 64)),
    ],
)
def test_signature_file(content: bytes) -> None:
    """A signature's own file holds it raw, or as base64 with white space around and inside it, as tools wrap it."""
    assert encoding.signature_file(content) == [SIGNATURE]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (SIGNATURE + b"\n", "wrong size: 257 bytes"),
        (SIGNATURE[:-1], "wrong size: 255 bytes"),
        (DIGEST, "wrong size: 32 bytes"),
        (base64.b64encode(SIGNATURE) + b"\n" + base64.b64encode(SIGNATURE)[:-1] + b"\n", "^line 2: not canonical"),
        (base64.b64encode(SIGNATURE) + b"\n\n" + base64.b64encode(SIGNATURE) + b"\n", "^line 2: empty"),
        (base64.b64encode(SIGNATURE) + b"\n" + base64.b64encode(DIGEST) + b"\n", "^line 2: wrong size: 32 bytes"),
        (2 * base64.encodebytes(SIGNATURE), "^several signatures, not one$"),
        (2 * base64.b64encode(SIGNATURE), "^several in one line"),
        (base64.b64encode(SIGNATURE)[:-1], "not canonical"),
    ],
)
def test_refused_signature_file(content: bytes, said: str) -> None:
    """A signature's own file with anything else in it is refused."""
    with pytest.raises(ToktoolsError, match=said):
        encoding.signature_file(content)


def test_one_byte() -> None:
    """One byte is not called bytes."""
    assert (encoding.size(1), encoding.size(2), encoding.size(0)) == ("1 byte", "2 bytes", "0 bytes")


# Bytes that show both characters that base64url replaces.
RANDOM = bytes(range(255, -1, -1))
TEXT = base64.b64encode(RANDOM)
HEX = RANDOM.hex()
DIGEST_HEX = DIGEST.hex().encode()

# What people have in place of base64, and what it is called.
DISGUISES = {
    "hexadecimal": (HEX.encode(), "hexadecimal digits, not base64"),
    "hexadecimal in capitals": (HEX.upper().encode(), "hexadecimal digits, not base64"),
    "hexadecimal without a digit": (b"deadbeef" * 64, "hexadecimal digits, not base64"),
    "hexadecimal and an x": (b"0x" + HEX.encode(), "hexadecimal digits, not base64"),
    "hexadecimal of a digest": (DIGEST_HEX, "hexadecimal digits, not base64"),
    "hexadecimal with colons": (RANDOM.hex(":").encode(), "hexadecimal digits, not base64"),
    "base64 of base64": (base64.b64encode(TEXT), "base64 of base64"),
    "base64 of wrapped base64": (base64.b64encode(base64.encodebytes(RANDOM)), "base64 of base64"),
    "base64 of hexadecimal": (base64.b64encode(HEX.encode()), "base64 of hexadecimal digits"),
    "base64 of base64 of base64": (base64.b64encode(base64.b64encode(TEXT)), "base64 of base64"),
    "certutil": (
        b"-----BEGIN CERTIFICATE-----\r\n" + base64.encodebytes(RANDOM) + b"-----END CERTIFICATE-----\r\n",
        "text between BEGIN and END lines, not base64",
    ),
    "PGP": (b"-----BEGIN PGP SIGNATURE-----\n\n" + TEXT, "text between BEGIN and END lines, not base64"),
    "base64url": (base64.urlsafe_b64encode(RANDOM), "base64url, not base64"),
    "base64url without padding": (base64.urlsafe_b64encode(RANDOM).rstrip(b"="), "base64url, not base64"),
    "Vault": (b"vault:v1:" + TEXT, "a signature of HashiCorp Vault, not base64"),
    "Vault, a later key": (b"vault:v12:" + TEXT, "a signature of HashiCorp Vault, not base64"),
    "two in a line": (TEXT + b" " + TEXT, "several in one line, not base64"),
    "two with a comma": (TEXT + b"," + TEXT, "several in one line, not base64"),
    "two run together": (TEXT + TEXT, "several in one line, not base64"),
    "a byte-order mark": (b"\xef\xbb\xbf" + TEXT, "a byte-order mark before the text, not base64"),
    "UTF-16": (TEXT.decode().encode("utf-16"), "UTF-16, not base64"),
    "UTF-16, little end first": (TEXT.decode().encode("utf-16-le"), "UTF-16, not base64"),
    "UTF-16, big end first": (TEXT.decode().encode("utf-16-be"), "UTF-16, not base64"),
    "UTF-16, a mark, big end first": (("\ufeff" + TEXT.decode()).encode("utf-16-be"), "UTF-16, not base64"),
    "UTF-16, a line cut by a line feed": (b"\0" + TEXT.decode().encode("utf-16-le"), "UTF-16, not base64"),
    "sha256sum": (DIGEST_HEX + b"  token1.bin", "a hexadecimal digest with words beside it, not base64"),
    "sha256sum -b": (DIGEST_HEX + b" *token1.bin", "a hexadecimal digest with words beside it, not base64"),
    "sha256sum, an odd name": (
        b"\\" + DIGEST_HEX + b"  a\\nb",
        "a hexadecimal digest with words beside it, not base64",
    ),
    "sha256sum --tag": (b"SHA256 (a b) = " + DIGEST_HEX, "a hexadecimal digest with words beside it, not base64"),
    "openssl dgst": (b"SHA2-256(stdin)= " + DIGEST_HEX, "a hexadecimal digest with words beside it, not base64"),
    "quotes": (b'"' + TEXT + b'"', "text in quotes, not base64"),
    "quotes and a comma": (b'"' + TEXT + b'",', "text in quotes, not base64"),
    "JSON": (b'{"Signature": "' + TEXT + b'"}', "JSON, not base64"),
    "a data: URL": (b"data:;base64," + TEXT, "a data: URL, not base64"),
    "percent-encoded": (TEXT.replace(b"=", b"%3D"), "percent-encoded text, not base64"),
    "backslashes": (TEXT.replace(b"/", b"\\/"), "text with backslashes, not base64"),
}


@pytest.mark.parametrize(("text", "said"), DISGUISES.values(), ids=DISGUISES)
def test_disguises(text: bytes, said: str) -> None:
    """What only looks like base64, or like something that people have in its place, is named with a hint."""
    line = text.split(b"\n", 1)[0].removesuffix(b"\r")  # as a stream would have it
    for decode, content in (
        (encoding.signature, line),
        (encoding.digest, line),
        (encoding.signature_file, text),
        (encoding.wrapped_signature, text),
    ):
        with pytest.raises(ToktoolsError) as caught:
            decode(content)
        assert caught.value.message == said
        assert caught.value.hint


@pytest.mark.parametrize("text", [DIGEST_HEX, DIGEST_HEX + b"\n", DIGEST_HEX[:32], base64.b64encode(DIGEST) + b"\n"])
def test_text_for_a_raw_digest(text: bytes) -> None:
    """A text is no raw digest, though it may have 32 bytes."""
    with pytest.raises(ToktoolsError, match=r"^hexadecimal digits, not base64$|^base64 text, not raw bytes$"):
        encoding.raw_digest(text)


def test_random_bytes_are_no_text() -> None:
    """Raw signatures and digests are taken for what they are, whatever bytes they begin with."""
    generator = random.Random(1)
    marks = (b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"0x", b"data:", b"{", b'"', b"vault:v1:", b"-----BEGIN ")
    for start in marks * 100:
        signature = start + generator.randbytes(256 - len(start))
        assert encoding.signature_file(signature) == [signature]
        assert encoding.signature(base64.b64encode(signature)) == signature
        assert encoding.digest(base64.b64encode(signature[:32])) == encoding.raw_digest(signature[:32])


def test_several_lines_in_a_file() -> None:
    """A file may hold what tok-sign wrote: a signature a line, also with the line ends of another system."""
    lines = base64.b64encode(SIGNATURE), base64.b64encode(RANDOM)
    for end in (b"\n", b"\r\n", b"\n\n\n"):
        if end != b"\n\n\n":
            assert encoding.signature_file(end.join(lines) + end) == [SIGNATURE, RANDOM]
        assert encoding.signature_file(b"\n".join(lines) + end) == [SIGNATURE, RANDOM]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b" ~\t\r\n", True),
        (b"\x7f", False),
        (b"\x1f", False),
        (b"\0", False),
        (b"a\0", True),
        (b"\0a", True),
        (b"\1\0b\0", False),
        (b"", True),
    ],
)
def test_what_text_is(content: bytes, text: bool) -> None:  # noqa: FBT001 - pytest gives it
    """ASCII that prints, white space, and the same in UTF-16, of which one byte is no character."""
    assert encoding.is_text(content) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"1" * 31, "not canonical base64"),
        (b"1" * 32, "hexadecimal digits, not base64"),
        (b"\xff" * 31, "not base64"),
        (b"\xff" * 32, "raw bytes, not base64"),
        (b"-" * 31, "not base64"),
        (b"-" * 32, "base64url, not base64"),
        (b"\\" + b"1" * 64, "text with backslashes, not base64"),
        (b"\\" + b"1" * 64 + b" f", "a hexadecimal digest with words beside it, not base64"),
        (encoding.encode(b"a" * 31), "31 bytes, but a SHA-256 digest has 32"),
        (encoding.encode(b"a" * 32), "base64 of hexadecimal digits"),
    ],
)
def test_how_much_text_is_named(text: bytes, said: str) -> None:
    """From 32 characters on what stands for something else is named."""
    with pytest.raises(ToktoolsError) as raised:
        encoding.digest(text)
    assert raised.value.message == said
    assert raised.value.hint != said.partition(",")[0]


def test_a_size_that_is_not_documented() -> None:
    """The message names the one that is."""
    assert encoding.undocumented_size(384) == "a signature of 384 bytes; CloudHSM documents only RSA-2048, with 256"
    assert [encoding.size(number) for number in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]

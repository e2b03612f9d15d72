"""Canonical base64, and the sizes of digests and signatures."""

import base64

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
    with pytest.raises(ToktoolsError, match="not canonical"):
        encoding.decode(b"QR==")


def test_digest_of_32_bytes() -> None:
    """A digest of 32 bytes is taken."""
    assert encoding.digest(base64.b64encode(DIGEST)) == DIGEST


@pytest.mark.parametrize("count", [1, 20, 31, 33, 48, 64])
def test_digest_of_another_size(count: int) -> None:
    """A digest that is not 32 bytes long is refused with its size."""
    with pytest.raises(ToktoolsError, match=f"^{encoding.size(count)}, but a SHA-256 digest has 32$") as caught:
        encoding.digest(base64.b64encode(bytes(count)))
    # Zeros in base64 are all A, so 48 of them do look like hexadecimal.
    assert ("hexadecimal" in caught.value.hint) == (count == 48)


@pytest.mark.parametrize("text", [DIGEST.hex().encode(), DIGEST.hex().upper().encode()])
def test_digest_in_hexadecimal(text: bytes) -> None:
    """A digest in hexadecimal, which happens to be valid base64, is refused with a hint."""
    with pytest.raises(ToktoolsError, match="48 bytes") as caught:
        encoding.digest(text)
    assert "hexadecimal" in caught.value.hint


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
    ],
)
def test_signature_file(content: bytes) -> None:
    """A signature's own file holds it raw, or as base64 with white space around it."""
    assert encoding.signature_file(content) == SIGNATURE


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (SIGNATURE + b"\n", "wrong size: 257 bytes"),
        (SIGNATURE[:-1], "wrong size: 255 bytes"),
        (DIGEST, "wrong size: 32 bytes"),
        (base64.encodebytes(SIGNATURE), "white space"),
        (base64.b64encode(SIGNATURE) + b"\n" + base64.b64encode(SIGNATURE) + b"\n", "white space"),
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

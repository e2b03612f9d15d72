"""Canonical base64, and what is said of sizes."""

import base64

import pytest

from toktools import encoding
from toktools.errors import ToktoolsError


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        # RFC 4648 section 10
        (b"f", b"Zg=="),
        (b"fo", b"Zm8="),
        (b"foo", b"Zm9v"),
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
    "text",
    [b"", b"QQ==\n", b" QQ==", b"-_8=", b"QQ==\0", b"QR==", b"Zm9=", b"QQ", b"QQ===", b"QQ==QQ==", b"====", b"A"],
)
def test_refused_base64(text: bytes) -> None:
    """What is not canonical base64 is refused."""
    with pytest.raises(ToktoolsError, match=r"^not canonical base64$"):
        encoding.decode(text)


def test_stricter_than_the_library() -> None:
    """The ending QR== is refused, though the strict decoder of the standard library takes it."""
    assert base64.b64decode(b"QR==", validate=True) == b"A"
    with pytest.raises(ToktoolsError):
        encoding.decode(b"QR==")


def test_what_is_said_of_sizes() -> None:
    """One byte is not called bytes, and a size that is not documented is told with the one that is."""
    assert [encoding.size(number) for number in (0, 1, 2)] == ["0 bytes", "1 byte", "2 bytes"]
    assert encoding.undocumented_size(384) == "a signature of 384 bytes; CloudHSM documents only RSA-2048, with 256"

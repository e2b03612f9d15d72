"""Signatures, compared with those that AWS published and with RFC 8017 worked out by hand."""

import base64
import re
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from typing import Any, cast

import pytest
from conftest import OFFICER1_PUB, SIGNED, rsa_key
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256, SHA384, SHA512

from toktools import signatures
from toktools.errors import ToktoolsError
from toktools.keys.files import KeyInMemory, read_public_key
from toktools.tokens import tokenfile

OFFICER = rsa_key()
STRANGER = rsa_key("stranger")
LARGER = rsa_key("officer2", 3072)
DIGESTS = [sha256(name).digest() for name in (b"HSM 1", b"HSM 2", b"HSM 3")]
TEXT = base64.b64encode(DIGESTS[0])
# RFC 8017 section 9.2, note 1
DIGEST_INFO = bytes.fromhex("30 31 30 0d 06 09 60 86 48 01 65 03 04 02 01 05 00 04 20")


def sign_block(key: rsa.RSAPrivateKey, content: bytes, kind: int = 1) -> bytes:
    """Pad any content as RFC 8017 section 9.2 says, and apply RSASP1 (section 5.2.1) with bare arithmetic."""
    size = key.key_size // 8
    block = b"\0" + bytes([kind]) + b"\xff" * (size - 3 - len(content)) + b"\0" + content
    numbers = key.private_numbers()
    return pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n).to_bytes(size, "big")


@pytest.mark.parametrize("key", [OFFICER, LARGER], ids=["RSA-2048", "RSA-3072"])
@pytest.mark.parametrize("digest", [*DIGESTS, bytes(32), b"\xff" * 32])
def test_sign_is_rfc_8017(key: rsa.RSAPrivateKey, digest: bytes) -> None:
    """A signature is the DigestInfo of the digest itself, padded and raised to the private exponent."""
    signature = KeyInMemory(key).sign(digest)
    assert signature == sign_block(key, DIGEST_INFO + digest)
    assert signatures.verifies(key.public_key(), digest, signature)


def test_published_signatures() -> None:
    """AWS's three published signatures verify, and each of them for its own digest alone."""
    officer1 = read_public_key(str(OFFICER1_PUB), print)
    tokens = tokenfile.parse(SIGNED.read_bytes())
    published = [base64.b64decode(tokens.signature(index)) for index in range(3)]
    good = [[signatures.verifies(officer1, digest, signature) for signature in published] for digest in tokens.digests]
    assert good == [[True, False, False], [False, True, False], [False, False, True]]
    assert [
        signatures.Verifier([officer1], tokens.digests).problem(index, tokens.signature(index)) for index in range(3)
    ] == [""] * 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: OFFICER.sign(DIGESTS[0], PKCS1v15(), Prehashed(SHA256())), ""),
        (lambda: KeyInMemory(OFFICER).sign(DIGESTS[1]), "the signature of token 2, not of token 1"),
        (
            lambda: OFFICER.sign(DIGESTS[0], PKCS1v15(), SHA256()),
            "the digest was hashed once more before it was signed",
        ),
        (
            lambda: OFFICER.sign(DIGESTS[2], PKCS1v15(), SHA256()),
            "the signature of token 3, not of token 1, and the digest was hashed once more",
        ),
        (
            lambda: OFFICER.sign(TEXT, PKCS1v15(), SHA256()),
            "the base64 text of the digest was hashed and signed, not the digest",
        ),
        (
            lambda: OFFICER.sign(TEXT + b"\n", PKCS1v15(), SHA256()),
            "the base64 text of the digest was hashed and signed, not the digest",
        ),
        (
            lambda: sign_block(OFFICER, DIGESTS[0]),
            "no DigestInfo was signed, only the bare digest (openssl needs -pkeyopt digest:sha256)",
        ),
        (lambda: sign_block(OFFICER, TEXT), "the base64 text was signed, not the digest"),
        (lambda: sign_block(OFFICER, b"anything"), "no SHA-256 DigestInfo was signed"),
        *(
            (partial(OFFICER.sign, DIGESTS[0], PKCS1v15(), algorithm), f"made with {name}, not SHA-256")
            for name, algorithm in (("MD5", MD5()), ("SHA-1", SHA1()), ("SHA-384", SHA384()), ("SHA-512", SHA512()))
        ),
        (
            lambda: KeyInMemory(OFFICER).sign(DIGESTS[0])[::-1],
            "its bytes are in reverse order, as Windows CryptoAPI writes them",
        ),
        (
            lambda: sign_block(OFFICER, DIGEST_INFO + DIGESTS[0][:-1]),
            "the signer stopped reading too early: it signed 50 bytes of 51",
        ),
        (
            lambda: sign_block(OFFICER, DIGEST_INFO + bytes(31)),
            "the signed DigestInfo is not that of a SHA-256 digest",
        ),
        (
            lambda: KeyInMemory(OFFICER).sign(b"\1" * 32),
            f"the signature of another digest, {base64.b64encode(bytes([1]) * 32).decode()}",
        ),
        (
            lambda: OFFICER.sign(DIGESTS[0], PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH), Prehashed(SHA256())),
            "made with PSS padding, not PKCS#1 v1.5",
        ),
        (
            lambda: OFFICER.sign(DIGESTS[0], PSS(MGF1(SHA256()), PSS.MAX_LENGTH), SHA256()),
            "made with PSS padding, not PKCS#1 v1.5",
        ),
        (lambda: KeyInMemory(STRANGER).sign(DIGESTS[0]), "not made by the given key"),
        (lambda: sign_block(OFFICER, DIGEST_INFO + DIGESTS[0], kind=2), "not made by the given key"),
        (lambda: bytes(256), "not made by the given key"),
        (lambda: b"\xff" * 256, "not made by the given key"),
        (lambda: KeyInMemory(LARGER).sign(DIGESTS[0]), "wrong size: 384 bytes, but an RSA-2048 signature has 256"),
        (lambda: bytes(255), "wrong size: 255 bytes, but an RSA-2048 signature has 256"),
    ],
)
def test_problem_names_the_mistake(make: Callable[[], bytes], said: str) -> None:
    """Each mistake of a signer is told from the others, and a good signature has no problem."""
    text = base64.b64encode(make()).decode()
    assert signatures.Verifier([OFFICER.public_key()], DIGESTS).problem(0, text) == said
    if not said.startswith(("wrong size", "not made")):
        # The mistake is named whichever of the keys made it.
        several = [STRANGER.public_key(), LARGER.public_key(), OFFICER.public_key()]
        assert signatures.Verifier(several, DIGESTS).problem(0, text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unsigned"),
        (" ", "white space in the base64"),
        ("placeholder\u00e9", "not base64"),
        ("QR==", "not canonical base64"),
        (base64.encodebytes(bytes(256)).decode(), "base64 wrapped into lines"),
    ],
)
def test_problem_of_a_text(text: str, said: str) -> None:
    """What is not even canonical base64 is told as such, and an empty text as unsigned."""
    assert signatures.Verifier([OFFICER.public_key()], DIGESTS).problem(0, text) == said


def test_problem_with_several_keys() -> None:
    """A signature by any of the keys is good, and one by none of them is not blamed on one key."""
    both = [OFFICER.public_key(), LARGER.public_key()]
    made = [base64.b64encode(KeyInMemory(key).sign(DIGESTS[1])).decode() for key in (OFFICER, LARGER, STRANGER)]
    problems = [signatures.Verifier(both, DIGESTS).problem(1, text) for text in made]
    assert problems == ["", "", "not made by any of the given keys"]
    for keys in (both, both[::-1]):  # of a size that none of them has, the smallest is what was meant
        problem = signatures.Verifier(keys, DIGESTS).problem(1, "AA==")
        assert problem == "wrong size: 1 byte, but an RSA-2048 signature has 256"


class BrokenKey:
    """A private key whose signing goes wrong, as after a fault in the processor or in the key's CRT numbers."""

    key_size = 2048

    def __init__(self, signature: bytes) -> None:
        self._signature = signature

    def sign(self, *_: object) -> bytes:
        if not self._signature:
            raise ValueError("reason")
        return self._signature

    def public_key(self) -> rsa.RSAPublicKey:
        return OFFICER.public_key()


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        (bytes(256), "the key is broken, or its signer made a mistake: not made by the given key"),
        (
            KeyInMemory(OFFICER).sign(DIGESTS[1]),
            "the key is broken, or its signer made a mistake: the signature of another",
        ),
        (
            KeyInMemory(STRANGER).sign(DIGESTS[0]),
            "the key is broken, or its signer made a mistake: not made by the given key",
        ),
        (b"", "the key cannot sign: broken, or refused by the library"),
    ],
    ids=["zeros", "of another digest", "of another key", "none"],  # else each worker has names of its own
)
def test_broken_key(signature: bytes, said: str) -> None:
    """A signature that does not verify is never handed out: from it the private key could be worked out."""
    with pytest.raises(ToktoolsError, match=re.escape(said)):
        KeyInMemory(cast("rsa.RSAPrivateKey", BrokenKey(signature))).sign(DIGESTS[0])


@pytest.mark.parametrize("count", [0, 31, 33])
def test_digest_of_another_size(count: int) -> None:
    """What has not the size of a digest is not signed."""
    with pytest.raises(ToktoolsError, match="the key cannot sign"):
        KeyInMemory(OFFICER).sign(bytes(count))


def test_many_signatures_of_other_digests() -> None:
    """All digests are looked at once, however many signatures are those of others."""

    class Counted(list[bytes]):
        looks = 0

        def __getitem__(self, index: Any) -> Any:
            self.looks += 1
            return super().__getitem__(index)

        def __iter__(self) -> Iterator[bytes]:
            return (self[index] for index in range(len(self)))

    digests = Counted(sha256(bytes([number])).digest() for number in range(100))
    made = KeyInMemory(OFFICER).sign(digests[99])
    verifier = signatures.Verifier([OFFICER.public_key()], digests)
    for index in range(99):
        problem = verifier.problem(index, base64.b64encode(made).decode())
        assert problem == f"the signature of token 100, not of token {index + 1}"
    assert digests.looks < 10 * len(digests)

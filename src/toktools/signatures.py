"""Verify signatures, and say what is wrong with one."""

from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from toktools import encoding, records
from toktools.errors import ToktoolsError

DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""The bytes before a SHA-256 digest in the signed block (RFC 8017 section 9.2, note 1)."""
_OTHER_HASHES = {
    bytes.fromhex("3020300c06082a864886f70d020505000410"): "MD5",
    bytes.fromhex("3021300906052b0e03021a05000414"): "SHA-1",
    bytes.fromhex("302d300d06096086480165030402040500041c"): "SHA-224",
    bytes.fromhex("3041300d060960864801650304020205000430"): "SHA-384",
    bytes.fromhex("3051300d060960864801650304020305000440"): "SHA-512",
}
"""The same for other hashes; some signers always use SHA-1 or SHA-512."""

PublicKey = RSAPublicKey
"""An RSA public key, for modules that do not import the library."""

NOT_BY_KEY = "not made by the given key"
_PADDING = PKCS1v15()
_FINISHED = Prehashed(SHA256())


def verifies(key: RSAPublicKey, digest: bytes, signature: bytes) -> bool:
    """Return whether a signature of a digest of 32 bytes verifies with a key (RFC 8017 section 8.2.2)."""
    try:
        key.verify(signature, digest, _PADDING, _FINISHED)
    except InvalidSignature:
        return False
    return True


class Verifier:
    """Public keys, one of which should have signed each of the digests.

    *otherwise* is the problem with a signature that the only key has not made, if no other is found.
    """

    def __init__(self, keys: Sequence[RSAPublicKey], digests: Sequence[bytes], otherwise: str = NOT_BY_KEY) -> None:
        self._keys = keys
        self._otherwise = otherwise
        self._digests = digests
        self._indices: dict[bytes, int] = {}
        """The index of each digest, and of its hash, to find the digest of a misplaced signature."""
        self._sizes = sorted({key.key_size // 8 for key in keys})

    def problem(self, index: int, text: str) -> str:
        """Return why a text is not the base64 signature of digests[index] by one of the keys, or an empty string.

        The block that a public key recovers from the signature shows which common mistake a signer made.
        """
        if not text:
            return "unsigned"
        try:
            signature = records.decode(text.encode())
        except ToktoolsError as error:
            return error.message
        if len(signature) not in self._sizes:
            return encoding.wrong_signature_size(len(signature), self._sizes[0])
        digest = self._digests[index]
        if any(verifies(key, digest, signature) for key in self._keys):
            return ""
        for key in self._keys:
            if block := _recover(key, signature):
                return self._mistake(block, index)
            if _recover(key, signature[::-1]):
                return "its bytes are in reverse order, as Windows CryptoAPI writes them"
            if _is_pss(key, digest, signature):
                return "made with PSS padding, not PKCS#1 v1.5"
        return self._otherwise if len(self._keys) == 1 else "not made by any of the given keys"

    def _mistake(self, block: bytes, index: int) -> str:
        """Return what the right key signed instead, with the right padding."""
        from hashlib import sha256

        digest = self._digests[index]
        text = encoding.encode(digest)
        if (DIGEST_INFO + digest).startswith(block):
            return f"the signer stopped reading too early: it signed {encoding.size(len(block))} of 51"
        if block == digest:
            return "no DigestInfo was signed, only the bare digest (openssl needs -pkeyopt digest:sha256)"
        if block in {text, text + b"\n"}:
            return "the base64 text was signed, not the digest"
        for prefix, name in _OTHER_HASHES.items():
            if block.startswith(prefix):
                return f"made with {name}, not SHA-256"
        if not block.startswith(DIGEST_INFO):
            return "no SHA-256 DigestInfo was signed"
        signed = block[len(DIGEST_INFO) :]
        if signed == sha256(digest).digest():
            return "the digest was hashed once more before it was signed"
        if signed in {sha256(text).digest(), sha256(text + b"\n").digest()}:
            return "the base64 text of the digest was hashed and signed, not the digest"
        return self._other(signed, index)

    def _other(self, signed: bytes, index: int) -> str:
        """Return which other digest was signed."""
        from hashlib import sha256

        if not self._indices:
            for other in reversed(range(len(self._digests))):
                digest = self._digests[other]
                self._indices[digest] = self._indices[sha256(digest).digest()] = other
        if signed in self._indices:
            other = self._indices[signed]
            more = "" if signed == self._digests[other] else ", and the digest was hashed once more"
            return f"the signature of token {other + 1}, not of token {index + 1}{more}"
        if len(signed) == encoding.DIGEST_SIZE:
            return f"the signature of another digest, {encoding.encode(signed).decode()}"
        return "the signed DigestInfo is not that of a SHA-256 digest"


def _recover(key: RSAPublicKey, signature: bytes) -> bytes:
    """Return the signed block, or nothing if this key did not sign it with PKCS#1 v1.5 padding."""
    try:
        return key.recover_data_from_signature(signature, _PADDING, None)
    except InvalidSignature:
        return b""


def _is_pss(key: RSAPublicKey, digest: bytes, signature: bytes) -> bool:
    for algorithm in (_FINISHED, SHA256()):  # the digest itself, or hashed once more
        try:
            key.verify(signature, digest, PSS(MGF1(SHA256()), PSS.AUTO), algorithm)
        except InvalidSignature:
            continue
        return True
    return False

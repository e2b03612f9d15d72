"""The base class of signers: each signature is verified before it is given out."""

from __future__ import annotations

from toktools.errors import ToktoolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.signatures import PublicKey


class Signer:
    """A private key, wherever it is kept. As many threads as max_parallel() says may call sign()."""

    is_quick = False
    """Whether a signature takes so little time that the thread which reads the digests may make it."""

    def __init__(self, public_key: PublicKey | None = None) -> None:
        self.public_key = public_key
        if public_key is not None:
            from toktools.signatures import verifies

            self._verifies = verifies

    def sign(self, digest: bytes) -> bytes:
        """Sign a finished SHA-256 digest of 32 bytes as it is: RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.1).

        Return as many bytes as the modulus has (256 for RSA-2048): those that openssl pkeyutl -sign writes with
        -pkeyopt digest:sha256. If the public key is known, the signature is verified. Raises ToktoolsError.
        """
        signature = self._sign(digest)
        if self.public_key is not None and not self._verifies(self.public_key, digest, signature):
            raise self._unverified(self.public_key, digest, signature)
        return signature

    def max_parallel(self, requested: int | None) -> int:
        """Return the number of threads to use; *requested* is the value of -j, or None."""
        return requested or 1

    def close(self) -> None:
        """Clean up after the last signature, or while another thread signs."""

    def _sign(self, digest: bytes) -> bytes:
        raise NotImplementedError

    def _unverified(self, _public_key: PublicKey, _digest: bytes, _signature: bytes) -> ToktoolsError:
        """Return the error for a wrong signature, which could reveal the key, so it is not shown."""
        return ToktoolsError("a broken key: the signature that it made does not verify")


def problem(public_key: PublicKey, digest: bytes, signature: bytes) -> str:
    """Return what is wrong with the signature of *digest*, in the words of tok-verify(1)."""
    from toktools.encoding import encode
    from toktools.signatures import Verifier

    return Verifier([public_key], [digest]).problem(0, encode(signature).decode())

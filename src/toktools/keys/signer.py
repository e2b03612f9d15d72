"""The base class of signers: each signature is verified before it is given out."""

from __future__ import annotations

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.signatures import PublicKey


class Signer:
    """A private key in any place. Up to max_parallel() threads may call sign()."""

    is_quick = False
    """Whether a signature takes so little time that the thread which reads the digests may make it."""

    def __init__(self, public_key: PublicKey | None = None) -> None:
        self.public_key = public_key

    def sign(self, digest: bytes) -> bytes:
        """Sign a finished SHA-256 digest of 32 bytes as it is: RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.1).

        Return as many bytes as the modulus has (256 for RSA-2048): those that openssl pkeyutl -sign writes with
        -pkeyopt digest:sha256. If the public key is known, the signature is verified. Raises ToktoolsError.
        """
        signature = self._sign(digest)
        if self.public_key is not None:
            from toktools.signatures import Verifier, verifies

            if not verifies(self.public_key, digest, signature):
                problem = Verifier([self.public_key], [digest]).problem(0, encoding.encode(signature).decode())
                raise self._wrong_signature(problem)
        event("digest signed")
        return signature

    def max_parallel(self, requested: int | None) -> int:
        """Return the number of threads to use; *requested* is the value of -j, or None."""
        return requested or 1

    def close(self) -> None:
        """Clean up after the last signature; another thread may still sign."""

    def _sign(self, digest: bytes) -> bytes:
        raise NotImplementedError

    def _wrong_signature(self, problem: str) -> ToktoolsError:
        """Return the error for a signature that does not verify, without the signature, which could reveal the key."""
        return ToktoolsError(f"the key is broken, or its signer made a mistake: {problem}")

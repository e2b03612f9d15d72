"""A signer: what signs a finished digest, wherever its key lives, and never gives out what does not verify."""

from __future__ import annotations

from toktools.errors import ToktoolsError

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.signatures import PublicKey


class Signer:
    """What every place of a key opens. Several threads may call sign(), as many as pace() says.

    Where public is known, each signature is verified with it before it leaves.
    """

    def __init__(self, public: PublicKey | None = None) -> None:
        self.public = public
        if public is not None:
            from toktools.signatures import verifies

            self._verifies = verifies

    def sign(self, digest: bytes) -> bytes:
        """Sign a finished SHA-256 digest of 32 bytes as it is: RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2.1).

        Returns as many bytes as the modulus has (256 for RSA-2048), the same that openssl pkeyutl -sign prints with
        -pkeyopt digest:sha256. Raises ToktoolsError.
        """
        signature = self._sign(digest)
        if self.public is not None and not self._verifies(self.public, digest, signature):
            raise self._unverified(self.public, digest, signature)
        return signature

    def pace(self, asked: int | None) -> tuple[int, bool]:
        """Return how many signatures to make at once where so many are asked for (None: no wish), and if each is quick.

        A quick one takes so little time that the thread which reads the digests may make it itself.
        """
        return asked or 1, False

    def close(self) -> None:
        """Leave nothing behind after the last signature."""

    def stop(self) -> None:
        """End in the middle of the work, whatever other threads are at."""
        self.close()

    def _sign(self, digest: bytes) -> bytes:
        raise NotImplementedError

    def _unverified(self, _public: PublicKey, _digest: bytes, _signature: bytes) -> ToktoolsError:
        """Say what is wrong with a signature, which could give the key away."""
        return ToktoolsError("a broken key: the signature that it made does not verify")


def fault(public: PublicKey, digest: bytes, signature: bytes) -> str:
    """Say why a signature is not that of this digest by this key, in the words of tok-verify(1)."""
    from toktools.encoding import encode
    from toktools.signatures import Verifier

    return Verifier([public], [digest]).problem(0, encode(signature).decode())

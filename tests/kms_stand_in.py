"""AWS KMS at a port of this machine, by moto's server; it is run by the Python that has moto.

With the name of a directory as well, it ends when nobody has a lock on its file kms.users any more.
"""

import fcntl
import os
import sys
from pathlib import Path
from threading import Lock, Thread

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from moto.kms import responses, utils
from moto.server import main

signing = Lock()
respond, hash_and_sign = responses.KmsResponse.sign, utils.RSAPrivateKey.sign


def sign_as_it_is(key: utils.RSAPrivateKey, message: bytes, _: str) -> bytes:
    """Sign a digest."""
    signature: bytes = key.private_key.sign(message, PKCS1v15(), Prehashed(SHA256()))
    return signature


def sign(request: responses.KmsResponse) -> str:
    """Answer a request. Whatever the type of the message, moto hashes it; a DIGEST is hashed already."""
    is_digest = request._get_param("MessageType") == "DIGEST"  # noqa: SLF001 - there is no other way
    with signing:
        utils.RSAPrivateKey.sign = sign_as_it_is if is_digest else hash_and_sign
        answer: str = respond(request)
    return answer


def end_with(directory: Path) -> None:
    """End this process with those who use it; the next of them reads no port, though it may answer for a moment."""
    with (directory / "kms.users").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            (directory / "kms.port").write_text("")
        finally:
            os._exit(0)


responses.KmsResponse.sign = sign
if len(sys.argv) > 2:
    Thread(target=end_with, args=[Path(sys.argv[2])], daemon=True).start()
main(["-H", "127.0.0.1", "-p", sys.argv[1]])

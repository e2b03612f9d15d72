"""AWS KMS at a port of this machine, which is its first line, by moto's server; the Python that has moto runs it.

With the name of a directory, it ends when nobody has a lock on its file kms.users any more.
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
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

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
if len(sys.argv) > 1:
    Thread(target=end_with, args=[Path(sys.argv[1])], daemon=True).start()
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
sys.stdout.write(f"{server.port}\n")
sys.stdout.flush()
server.serve_forever()

"""Where a key lives: the table of places, and who opens a signer there."""

from __future__ import annotations

import os
from collections.abc import Callable

from toktools.errors import ToktoolsError
from toktools.system import passphrases

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.keys.signer import Signer
    from toktools.signatures import PublicKey
    from toktools.system.passphrases import Secret

    Warn = Callable[[str], None]
    """Tells the user what the work does not stop for."""
    Opener = Callable[[str, Secret, Warn], Signer]


def open_signer(where: str, secret: Secret, warn: Warn) -> Signer:
    """Open the RSA private key of 2,048 bits or more that a user names: a file, or a URI of one of the schemes below.

    secret is asked for a pass phrase or a PIN, where one is needed. Raises ToktoolsError.
    """
    scheme, colon, _ = where.partition(":")
    passphrases.warn_of_exposure(secret, warn)
    opener = _OPENERS.get(scheme.lower()) if colon else None  # a scheme has no case (RFC 3986 section 3.1)
    signer = (opener or _in_file)(where, secret, warn)
    if signer.public is not None:
        from toktools.system import files

        check_size(files.display(where.partition("?")[0] if opener else where), signer.public, warn)
    return signer


def check_size(name: str, key: PublicKey, warn: Warn) -> None:
    """Warn of the size of a key, named so, that CloudHSM does not document. Raises ToktoolsError for one of no use."""
    from toktools.keys import allowed

    bits = key.key_size
    allowed.refuse_size(name, bits)
    if bits != allowed.DOCUMENTED_BITS:
        warn(f"{name}: the key is RSA-{bits}; CloudHSM documents only RSA-{allowed.DOCUMENTED_BITS}")


def _in_file(path: str, passphrase: Secret, warn: Warn) -> Signer:
    from toktools.keys import file

    try:
        return file.open_signer(path, passphrase, warn)
    except ToktoolsError as error:
        hint = next((hint for begin, hint in _MISTYPED if path.startswith(begin)), "")
        if hint and not os.path.exists(path):
            raise ToktoolsError(error.message, hint) from None
        raise


_MISTYPED = (
    ("arn:", "for a key in AWS KMS, write awskms:///ARN"),
    ("alias/", "for a key in AWS KMS, write awskms:///alias/NAME"),
    ("file:", "-k takes only the path, without file:"),
    ("~", "the shell replaces ~ with your home folder only if it is not quoted"),
)
"""How words begin that are no paths, and what was meant."""


def _on_token(uri: str, pin: Secret, warn: Warn) -> Signer:
    try:
        from toktools.keys import pkcs11
    except ImportError:
        raise _missing("a key on a PKCS#11 token", "python-pkcs11", "pkcs11") from None
    return pkcs11.open_signer(uri, pin, warn)


def _in_kms(uri: str, secret: Secret, warn: Warn) -> Signer:
    try:
        from toktools.keys import awskms
    except ImportError:
        raise _missing("a key in AWS KMS", "boto3", "kms") from None
    return awskms.open_signer(uri, secret, warn)


def _missing(what: str, package: str, extra: str) -> ToktoolsError:
    return ToktoolsError(
        f"{what} needs the package {package}", f"the extra toktools[{extra}] installs it; see tok-sign(1)"
    )


_OPENERS: dict[str, Opener] = {"awskms": _in_kms, "pkcs11": _on_token}
"""By the scheme of the URI; what has none of these is a file. A command is opened by tok-exec, as command.Command."""

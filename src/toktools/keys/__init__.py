"""RSA keys in a file or in one of the places of the table below."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from toktools.errors import ToktoolsError, shown
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toktools.keys.signer import Signer
    from toktools.signatures import PublicKey
    from toktools.system.prompt import Source

    Warn = Callable[[str], None]

DOCUMENTED_BITS = 2048
"""The size that AWS documents ("Create key pairs for MFA using CloudHSM CLI": RSA_2048)."""
LARGER_BITS = (3072, 4096)
"""Other sizes, which an HSM may take."""

_SCHEMES = {
    "awskms": ("in AWS KMS", "boto3", "kms"),
    "pkcs11": ("on a PKCS#11 token", "python-pkcs11", "pkcs11"),
}
"""By the scheme of a URI, which is the name of a module here too: where keys are, the package for it, and its extra."""


def open_signer(key: str, source: Source, warn: Warn) -> Signer:
    """Open the RSA private key *key*: a file, or a URI of one of the schemes.

    *source* is asked for the pass phrase or PIN if one is needed. Raises ToktoolsError.
    """
    source.warn_of_exposure(warn)
    if scheme := _scheme(key):
        where, package, extra = _SCHEMES[scheme]
        module = import_extra(f"toktools.keys.{scheme}", f"a key {where}", package, extra)
        signer: Signer = module.open_uri(key, source, warn)
        event(f"key {where} opened")
    else:
        from toktools.keys import files

        signer = files.open_file(key, source, warn)
    if signer.public_key is not None:
        check_size(shown(key.partition("?")[0] if scheme else key), signer.public_key, warn)
    return signer


def read_public_key(text: str, warn: Warn) -> PublicKey:
    """Read the RSA public key *text*: a file with a public key, a certificate or a private key, or a URI.

    A person is asked for the PIN if a token needs one. Raises ToktoolsError.
    """
    if _scheme(text):
        from toktools.system.prompt import Source

        public_key = open_signer(text, Source.ask("pin-source=file:PATH in the URI"), warn).public_key
        assert public_key is not None  # noqa: S101 - only that of a command may be unknown
        return public_key
    from toktools.keys import files

    return files.read_public_key(text, warn)


def _scheme(key: str) -> str:
    """Return the scheme of a URI, or an empty string for a file."""
    scheme, colon, _ = key.partition(":")
    scheme = scheme.lower()  # RFC 3986 section 3.1
    return scheme if colon and scheme in _SCHEMES else ""


def import_extra(module: str, what: str, package: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Import a module that needs the package of an extra. ToktoolsError says how to install it, or what is wrong."""
    try:
        return import_module(module)
    except Exception as error:  # noqa: BLE001 - a package that is there, but broken, may raise anything
        hint = f"pip install 'toktools[{extra}]', pipx inject toktools {package}, or the bundle's install.sh"
        # What is imported has the package's name; but that of python-pkcs11 is pkcs11.
        if isinstance(error, ModuleNotFoundError) and error.name == package.removeprefix("python-"):
            raise ToktoolsError(f"{what} needs the package {package}", hint) from None
        reason = shown(str(error)) or type(error).__name__
        raise ToktoolsError(f"{what} needs the package {package}, which cannot be loaded: {reason}", hint) from None


def check_size(name: str, key: PublicKey, warn: Warn) -> None:
    """Warn about a size that CloudHSM does not document. Raises ToktoolsError for one that it cannot use."""
    bits = key.key_size
    if bits in LARGER_BITS:
        warn(f"{name}: the key is RSA-{bits}; CloudHSM documents only RSA-{DOCUMENTED_BITS}")
    elif bits != DOCUMENTED_BITS:
        raise ToktoolsError(f"{name}: the key is RSA-{bits}, but CloudHSM takes RSA-{DOCUMENTED_BITS}")

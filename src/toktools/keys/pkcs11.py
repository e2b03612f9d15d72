"""A key on a PKCS#11 token (smart card, YubiKey, HSM, TPM): named by an RFC 7512 URI, reached by python-pkcs11."""

from __future__ import annotations

import atexit
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote, unquote_to_bytes

import pkcs11
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, PrivateKey, Session, Token, TokenFlag
from pkcs11.types import SignMixin

from toktools.errors import ToktoolsError, shown
from toktools.keys.signer import Signer
from toktools.signatures import DIGEST_INFO
from toktools.system import prompt
from toktools.system.events import event
from toktools.system.prompt import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

_PATH = (
    *("token", "manufacturer", "model", "serial", "slot-id", "slot-description", "slot-manufacturer"),
    *("library-manufacturer", "library-description", "library-version", "object", "id", "type"),
)
_QUERY = ("pin-source", "module-path")
_MAX_LISTED = 8
_PROXY = "p11-kit-proxy.so"
_COMMON_EXPONENT = (65537).to_bytes(3, "big")
_TROUBLE = (pkcs11.PKCS11Error, ValueError, struct.error)
"""Exceptions of the package; the last two are those of attributes that are broken."""


class Pkcs11Key(Signer):
    """An RSA private key on a token."""

    is_quick = True  # with one thread, another would only add a hand-over

    def __init__(self, key: PrivateKey, pin: str | None) -> None:
        if not isinstance(key, SignMixin):
            raise ToktoolsError("the key is not allowed to sign (CKA_SIGN)")
        self._key = key
        # A key with CKA_ALWAYS_AUTHENTICATE wants the PIN anew for each signature.
        self._pin = {"pin": pin} if _attribute(key, Attribute.ALWAYS_AUTHENTICATE) else {}
        # A token need not keep the exponent with the private key. Were it another one, no signature would verify.
        exponent = _attribute(key, Attribute.PUBLIC_EXPONENT) or _COMMON_EXPONENT
        modulus = _attribute(key, Attribute.MODULUS) or b""
        e, n = int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
        try:
            super().__init__(RSAPublicNumbers(e, n).public_key())
        except ValueError:
            raise ToktoolsError("the token gives no valid modulus of the key (CKA_MODULUS)") from None

    def max_parallel(self, requested: int | None) -> int:  # noqa: ARG002 - whatever it is
        """Return 1: a token and its user do one thing at a time."""
        return 1

    def _sign(self, digest: bytes) -> bytes:
        # CKM_RSA_PKCS over the DigestInfo (PKCS#11 3.0, section 2.1.6).
        with _pkcs11_errors():
            signature: bytes = self._key.sign(DIGEST_INFO + digest, mechanism=Mechanism.RSA_PKCS, **self._pin)
        return signature


def open_uri(uri: str, source: Source, warn: Callable[[str], None]) -> Signer:
    """Open the one private key that an RFC 7512 URI names, with one login to its token.

    *source* is asked for the PIN, unless the URI has a pin-source. Raises ToktoolsError.
    """
    wanted = _parse(uri)
    with _pkcs11_errors():
        token = _token(wanted)
        name = f"token {shown(token.label)}"
        pin = _pin(token, name, _pin_source(wanted, source, warn), warn)
        event(f"opening {name}" + (", with a PIN" if pin else ""))
        try:
            session = token.open(user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:  # for another key there; a login is good for all sessions
            session = token.open()
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
            raise ToktoolsError(f"{name}: wrong PIN") from None
        except pkcs11.PinLocked:
            raise _locked(name) from None
        return Pkcs11Key(_key(session, wanted, name), pin if isinstance(pin, str) else None)


def _parse(uri: str) -> dict[str, bytes]:
    # Anywhere, and misspelled too: no message may show it.
    if b"pin-value" in unquote_to_bytes(os.fsencode(uri)).lower():
        raise ToktoolsError("every user of the machine can read a pin-value", "use --passin or pin-source")
    path, _, query = uri.partition(":")[2].partition("?")
    wanted: dict[str, bytes] = {}
    for known, parts in ((_PATH, path.split(";")), (_QUERY, query.split("&"))):
        for part in filter(None, parts):
            attribute, equals, value = part.partition("=")
            if not equals:  # and no message shows it: it may be a PIN
                raise ToktoolsError("an attribute of the pkcs11 URI has no value")
            if attribute not in known:
                hint = f"the attributes are {', '.join(_PATH)} and, after a question mark, {', '.join(_QUERY)}"
                raise ToktoolsError(f"{shown(attribute)} is not an attribute of a pkcs11 URI", hint)
            if attribute in wanted:
                raise ToktoolsError(f"{attribute} occurs twice in the pkcs11 URI")
            wanted[attribute] = unquote_to_bytes(os.fsencode(value))
    wanted.pop("type", None)  # that of the same name which signs is meant, whatever is named
    return wanted


def _token(wanted: dict[str, bytes]) -> Token:
    module = os.fsdecode(wanted.get("module-path", b"")) or os.environ.get("PKCS11_MODULE_PATH") or _PROXY
    hint = "name the token's module with module-path in the URI or with PKCS11_MODULE_PATH"
    try:
        library = pkcs11.lib(module)
        atexit.register(_finalize, library.finalize)
        tokens = list(library.get_tokens(token_flags=TokenFlag.TOKEN_INITIALIZED))
        event(f"module {module} loaded; tokens: {len(tokens)}")
    except (pkcs11.PKCS11Error, SystemError) as error:  # the second one for a name that is not UTF-8
        raise ToktoolsError(f"{shown(module)}: cannot be used: {_reason(error)}", hint) from None
    matching = [token for token in tokens if _matches(library, token, wanted)]
    return _choose(matching, tokens, shown(module), "token", lambda token: _uri(token=token.label, serial=token.serial))


def _choose(matching: list[T], there: list[T], name: str, what: str, uri: Callable[[T], str]) -> T:
    """Return the only match. Raises ToktoolsError, which lists what is there, as a URI names it."""
    if len(matching) == 1:
        return matching[0]
    count = f"{len(matching)} {what}s match" if matching else f"no {what} matches"
    listed = ", ".join(sorted(map(uri, matching or there))[:_MAX_LISTED])
    raise ToktoolsError(f"{name}: {count}", f"choose one with {listed}" if listed else f"there is no {what} at all")


def _uri(**attributes: str | bytes | None) -> str:
    """Return the attributes of a URI, without those that are not known."""
    return ";".join(f"{name}={quote(value)}" for name, value in attributes.items() if value)


def _finalize(finalize: Callable[[], None]) -> None:
    """Tell the module that the process ends. The package would, but for gc.freeze() in cli.py.

    An error no longer matters: the signatures are written.
    """
    with suppress(pkcs11.PKCS11Error):
        finalize()


def _matches(library: Any, token: Token, wanted: dict[str, bytes]) -> bool:  # noqa: ANN401 - the package does not export its type
    slot = token.slot
    values = {
        "token": token.label,
        "manufacturer": token.manufacturer_id,
        "model": token.model,
        "serial": token.serial.decode(errors="replace"),
        "slot-id": str(slot.slot_id),
        "slot-description": slot.slot_description,
        "slot-manufacturer": slot.manufacturer_id,
        "library-manufacturer": library.manufacturer_id,
        "library-description": library.library_description,
        "library-version": ".".join(map(str, library.library_version)),
    }
    return all(wanted.get(name, value.encode()) == value.encode() for name, value in values.items())


def _pin(token: Token, name: str, source: Source, warn: Callable[[str], None]) -> str | object | None:
    if not token.flags & TokenFlag.LOGIN_REQUIRED:
        return None
    if token.flags & TokenFlag.USER_PIN_LOCKED:
        raise _locked(name)
    is_last = token.flags & TokenFlag.USER_PIN_FINAL_TRY
    if is_last:
        warn(f"{name}: one try is left before it locks the PIN")
    if token.flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
        return pkcs11.PROTECTED_AUTH  # the reader has its own keys
    if is_last:
        # A wrong PIN in a file or a variable may be what has used the others up.
        if not prompt.has_terminal():
            hint = "typing the right PIN at a terminal resets the count"
            raise ToktoolsError(f"{name}: the last try needs a person at a terminal, and there is no terminal", hint)
        source = Source.ask("--passin")
    try:
        return source.read(name, "PIN").decode()
    except UnicodeDecodeError:
        raise ToktoolsError(f"{name}: wrong PIN: not UTF-8") from None


def _pin_source(wanted: dict[str, bytes], source: Source, warn: Callable[[str], None]) -> Source:
    if "pin-source" not in wanted:
        return source
    path = os.fsdecode(wanted["pin-source"]).removeprefix("file:")
    source = Source("pin-source", "file", path)
    source.warn_of_exposure(warn)
    return source


def _key(session: Session, wanted: dict[str, bytes], name: str) -> PrivateKey:
    template: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if "object" in wanted:
        template[Attribute.LABEL] = wanted["object"].decode(errors="replace")
    if "id" in wanted:
        template[Attribute.ID] = wanted["id"]
    matching = _private_keys(session, template)
    there = [] if matching else _private_keys(session, {Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    key = _choose(matching, there, name, "private key", _key_uri)
    if key.key_type != KeyType.RSA:
        raise ToktoolsError(f"{name}: the key is {key.key_type.name}, but CloudHSM takes only RSA keys")
    return key


def _private_keys(session: Session, template: dict[Attribute, object]) -> list[PrivateKey]:
    return [key for key in session.get_objects(template) if isinstance(key, PrivateKey)]


def _key_uri(key: PrivateKey) -> str:
    return _uri(object=_attribute(key, Attribute.LABEL), id=_attribute(key, Attribute.ID))


def _attribute(key: PrivateKey, attribute: Attribute) -> bytes | None:
    try:
        value: bytes = key[attribute]
    except _TROUBLE:  # the token does not have it, or keeps it to itself
        return None
    return value


def _locked(name: str) -> ToktoolsError:
    return ToktoolsError(f"{name}: the PIN is locked")


def _reason(error: Exception) -> str:
    return shown(str(error)) or type(error).__name__


@contextmanager
def _pkcs11_errors() -> Iterator[None]:
    try:
        yield
    except _TROUBLE as error:
        raise ToktoolsError(f"PKCS#11: {_reason(error)}") from None

"""A key on a PKCS#11 token (smart card, YubiKey, HSM, TPM): named by an RFC 7512 URI, reached by python-pkcs11."""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote_to_bytes

import pkcs11
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, PrivateKey, Session, Slot, Token, TokenFlag
from pkcs11.types import SignMixin

from toktools.errors import ToktoolsError, shown
from toktools.keys.signer import Signer
from toktools.signatures import DIGEST_INFO
from toktools.system import prompt
from toktools.system.events import event
from toktools.system.prompt import Source

_PATH = (
    *("token", "manufacturer", "model", "serial", "slot-id", "slot-description", "slot-manufacturer"),
    *("library-manufacturer", "library-description", "library-version", "object", "id", "type"),
)
_QUERY = ("pin-source", "module-path")
_PROXY = "p11-kit-proxy.so"
_COMMON_EXPONENT = (65537).to_bytes(3, "big")


class Pkcs11Key(Signer):
    """An RSA private key on a token."""

    is_quick = True  # with one thread, another would only add a hand-over

    def __init__(self, key: PrivateKey, pin: str | None) -> None:
        if not isinstance(key, SignMixin):
            raise ToktoolsError("the key is not allowed to sign (CKA_SIGN)")
        self._key = key
        # A key with CKA_ALWAYS_AUTHENTICATE wants the PIN anew for each signature.
        always = bool(_attribute(key, Attribute.ALWAYS_AUTHENTICATE))
        if always and pin is None:
            raise ToktoolsError(
                "the key needs a PIN for each signature, and the reader's own keypad is not supported for that"
            )
        self._pin = {"pin": pin} if always else {}
        # A token need not keep the exponent with the private key. Were it another one, no signature would verify.
        exponent = _attribute(key, Attribute.PUBLIC_EXPONENT) or _COMMON_EXPONENT
        modulus = _attribute(key, Attribute.MODULUS)
        if not modulus:
            raise ToktoolsError("the token does not reveal the modulus of the key (CKA_MODULUS)")
        e, n = int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
        super().__init__(RSAPublicNumbers(e, n).public_key())

    def max_parallel(self, requested: int | None) -> int:  # noqa: ARG002 - whatever it is
        """Return 1: a token, and the person beside it, does one thing at a time."""
        return 1

    def _sign(self, digest: bytes) -> bytes:
        # CKM_RSA_PKCS over the DigestInfo (PKCS#11 3.0, section 2.1.6).
        with _pkcs11_errors():
            signature: bytes = self._key.sign(DIGEST_INFO + digest, mechanism=Mechanism.RSA_PKCS, **self._pin)
        return signature


def open_signer(uri: str, source: Source, warn: Callable[[str], None]) -> Signer:
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
        return Pkcs11Key(_key(session, wanted, name, uri), pin if isinstance(pin, str) else None)


def _parse(uri: str) -> dict[str, bytes]:
    # Anywhere, and misspelled too: no message may show it.
    if b"pin-value" in unquote_to_bytes(os.fsencode(uri)).lower():
        raise ToktoolsError("every user of the machine can read a pin-value", "use --passin or pin-source")
    if re.search("%(?![0-9A-Fa-f]{2})", uri):
        raise ToktoolsError("the pkcs11 URI has a wrong percent escape")
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
    if wanted.pop("type", b"private") != b"private":
        raise ToktoolsError("the type must be private, because the key must sign")
    if not wanted.get("slot-id", b"0").isdigit():
        raise ToktoolsError("slot-id is not a number")
    return wanted


def _token(wanted: dict[str, bytes]) -> Token:
    module = os.fsdecode(wanted.get("module-path", b"")) or os.environ.get("PKCS11_MODULE_PATH") or _PROXY
    hint = "name the token's module with module-path in the URI or with PKCS11_MODULE_PATH"
    if not _is_utf8(module):
        raise ToktoolsError(f"{shown(module)}: cannot be used: its name is not UTF-8", hint)
    try:
        library = pkcs11.lib(module)
        atexit.register(_finalize, library.finalize)
        slots = library.get_slots(token_present=True)
        event(f"module {module} loaded; slots with a token: {len(slots)}")
    except pkcs11.PKCS11Error as error:
        raise ToktoolsError(f"{shown(module)}: cannot be used: {_reason(error)}", hint) from None
    values = {
        "library-manufacturer": library.manufacturer_id.encode(),
        "library-description": library.library_description.encode(),
        "library-version": _version(library.library_version),
    }
    # RFC 7512 section 2.3 lets a version without a dot stand for one that ends in .0.
    if wanted.get("library-version", b".").isdigit():
        wanted["library-version"] += b".0"
    tokens = [token for slot in slots if _match(values, wanted) and (token := _initialized_token(slot, wanted))]
    if len(tokens) != 1:
        count = f"{len(tokens)} tokens match" if tokens else "no token matches"
        raise ToktoolsError(
            f"{shown(module)}: {count}", "choose one with token= or serial= in the URI" if tokens else ""
        )
    return tokens[0]


def _finalize(finalize: Callable[[], None]) -> None:
    """Tell the module that the process ends. The package would, but for gc.freeze() in cli.py.

    An error does not matter any more: the signatures are written.
    """
    with suppress(pkcs11.PKCS11Error):
        finalize()


def _initialized_token(slot: Slot, wanted: dict[str, bytes]) -> Token | None:
    try:
        token = slot.get_token()
    except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
        return None
    values = {
        "token": token.label.encode(),
        "manufacturer": token.manufacturer_id.encode(),
        "model": token.model.encode(),
        "serial": token.serial,
        "slot-id": str(slot.slot_id).encode(),
        "slot-description": slot.slot_description.encode(),
        "slot-manufacturer": slot.manufacturer_id.encode(),
    }
    return token if _match(values, wanted) and token.flags & TokenFlag.TOKEN_INITIALIZED else None


def _match(values: dict[str, bytes], wanted: dict[str, bytes]) -> bool:
    return all(wanted.get(attribute, value) == value for attribute, value in values.items())


def _version(numbers: object) -> bytes:
    """Return a version as RFC 7512 writes it; python-pkcs11 has a text or two numbers, as its version is."""
    return (".".join(map(str, numbers)) if isinstance(numbers, tuple) else str(numbers)).encode()


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
    if path.startswith("|"):
        raise ToktoolsError("pin-source: a command is not supported", "use tok-sign --passin")
    if not path:
        raise ToktoolsError("pin-source: no path")
    source = Source("pin-source", "file", path)
    source.warn_of_exposure(warn)
    return source


def _key(session: Session, wanted: dict[str, bytes], name: str, uri: str) -> PrivateKey:
    template: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if "object" in wanted:
        template[Attribute.LABEL] = wanted["object"].decode(errors="replace")
    if "id" in wanted:
        template[Attribute.ID] = wanted["id"]
    keys = [key for key in session.get_objects(template) if isinstance(key, PrivateKey)]
    if len(keys) != 1:
        count = f"{len(keys)} private keys match" if keys else "no private key matches"
        raise ToktoolsError(f"{name}: {count}", "choose one with object= or id= in the URI" if keys else _respell(uri))
    if keys[0].key_type != KeyType.RSA:
        raise ToktoolsError(f"{name}: the key is {keys[0].key_type.name}, but CloudHSM takes only RSA keys")
    return keys[0]


def _respell(uri: str) -> str:
    """Return a hint if an id seems to be hexadecimal: bare, or as pkcs11-tool 0.23 to 0.26 prints it (id=%0001)."""
    path = uri.partition(":")[2].partition("?")[0]
    written = dict(part.partition("=")[::2] for part in path.split(";")).get("id", "")
    digits = written.replace("%", "")
    if not re.fullmatch("([0-9A-Fa-f]{2})+", digits):
        return ""
    right = re.sub("(..)", r"%\1", digits)
    return "" if right == written else f"for the ID {digits}, write id={right} in the URI"


def _attribute(key: PrivateKey, attribute: Attribute) -> bytes | None:
    try:
        value: bytes = key[attribute]
    except pkcs11.PKCS11Error:  # the token does not have it, or keeps it to itself
        return None
    return value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _locked(name: str) -> ToktoolsError:
    return ToktoolsError(f"{name}: the PIN is locked")


def _reason(error: pkcs11.PKCS11Error) -> str:
    return shown(str(error)) or type(error).__name__


@contextmanager
def _pkcs11_errors() -> Iterator[None]:
    try:
        yield
    except pkcs11.PKCS11Error as error:
        raise ToktoolsError(f"PKCS#11: {_reason(error)}") from None

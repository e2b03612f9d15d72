"""A key on a PKCS#11 token: found by its URI, used with one PIN, and every trouble is one line without the PIN."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import quote

import pytest
from conftest import Done, Shell, need, only_if
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from terminal import terminal
from test_key_files import LINE, openssl_signature

from toktools import keys as key_room
from toktools.errors import ToktoolsError
from toktools.signatures import DIGEST_INFO, verifies
from toktools.system.prompt import Source

if TYPE_CHECKING:
    from toktools.keys.signer import Signer

PIN = "s3crét 7291"
WRONG = "wr0ng 8305"
LABEL = "Officer 1 é"
KEY_LABEL = "login kéy;1"
KEY_ID = "ff2500"  # no text, and a percent sign that must not be one
DIGESTS = [hashlib.sha256(bytes([number])).digest() for number in range(5)]
SIGN = "from toktools import cli; sys.exit(cli.main('sign', sys.argv[1:]))"
LINES = b"".join(base64.b64encode(digest) + b"\n" for digest in DIGESTS)


# What softhsm2-util --import cannot make: keys with attributes of their own. It tells slots and serial numbers, too.
MAKE_KEYS = """
import json, os, sys
import pkcs11
from pkcs11 import Attribute, MechanismFlag
from pkcs11.util.rsa import decode_rsa_private_key

library = pkcs11.lib(os.environ["PKCS11_MODULE_PATH"])
key = open(sys.argv[1], "rb").read()
with library.get_token(token_label="many").open(rw=True, user_pin=os.environ["PIN"]) as session:
    for label, attribute, value in [
        ("no sign", Attribute.SIGN, False),
        ("always", Attribute.ALWAYS_AUTHENTICATE, True),
    ]:
        template = decode_rsa_private_key(key, MechanismFlag.SIGN)
        template |= {Attribute.TOKEN: True, Attribute.LABEL: label, Attribute.ID: label.encode(), attribute: value}
        session.create_object(template)
tokens = [(slot, slot.get_token()) for slot in library.get_slots(token_present=True)]
print(json.dumps({token.label: [slot.slot_id, token.serial.decode()] for slot, token in tokens}))
"""


@dataclass(frozen=True)
class Store:
    """A directory of SoftHSM's with the tokens of these tests, which only read it."""

    module: str
    config: Path
    slots: Mapping[str, tuple[int, str]]
    """The number of the slot and the serial number of a token, by its label."""

    def text(self, text: str) -> str:
        """Put the slot and the serial number of the token with one key into a text."""
        slot, serial = self.slots[LABEL]
        return text.format(module=self.module, slot=slot, serial=serial, pin=quote(PIN))


@pytest.fixture(scope="session")
def store(keys: Path, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Fill tokens: one with a single key, one with many keys, two of the same name."""
    module = need("libsofthsm2.so", "softhsm2-util", "pkcs11")
    directory = tmp_path_factory.mktemp("softhsm")
    (directory / "tokens").mkdir()
    config = directory / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {directory / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    env = {**os.environ, "SOFTHSM2_CONF": str(config), "PKCS11_MODULE_PATH": module, "PIN": PIN, "LC_ALL": "C.UTF-8"}

    def run(*command: str | Path) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env, cwd=directory).stdout

    for label in (LABEL, "many", "double", "double"):
        run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "12345678")
    for label, key, name, key_id in [
        (LABEL, "pkcs8.pem", KEY_LABEL, KEY_ID),
        ("many", "pkcs8.pem", "twin", "01"),
        ("many", "other.pem", "twin", "02"),
        ("many", "rsa3072.pem", "large", "03"),
        ("many", "rsa1024.pem", "small", "04"),
        ("many", "ec.pem", "curve", "05"),
    ]:
        run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", keys / key, "-out", "key.pem")
        words = ["--token", label, "--label", name, "--id", key_id, "--pin", PIN]
        run("softhsm2-util", "--import", "key.pem", *words)
    slots = json.loads(run(installed / "python", "-c", MAKE_KEYS, keys / "pkcs1.der"))
    return Store(module, config, slots)


@dataclass(frozen=True)
class Desk(Shell):
    """A directory to work in, with SoftHSM's tokens at hand and the PIN in a variable."""

    store: Store

    @property
    def env(self) -> dict[str, str]:
        ours = {"SOFTHSM2_CONF": str(self.store.config), "PKCS11_MODULE_PATH": self.store.module, "PIN": PIN}
        return {**super().env, **ours, "WRONG": WRONG}

    def sign(self, uri: str, passin: str = "env:PIN", **more: Any) -> Done:
        """Sign the digest, or what more says, with the key that a URI names."""
        return self.run("tok-sign", "-k", uri, "--passin", passin, **{"stdin": LINE, **more})


@pytest.fixture
def desk(shell: Shell, store: Store) -> Desk:
    return Desk(shell.bin, shell.cwd, store)


@pytest.fixture(scope="session")
def signature(keys: Path) -> bytes:
    """Return the line that openssl makes of the digest with the key that is on the token."""
    return openssl_signature(keys, "pkcs8.pem")


def assert_refused(done: Done, *said: str) -> None:
    """Assert exit 2 and nothing signed, with one line and perhaps a hint, neither of which shows a PIN."""
    done.check(2, *said)
    assert done.out == b""
    first, *rest = done.err.splitlines()
    assert first.startswith("tok-sign: ")
    assert len(rest) == done.err.count("tok-sign: hint: ") <= 1
    assert "internal error" not in done.err
    for secret in (PIN, quote(PIN), "7291", WRONG, quote(WRONG)):
        assert secret not in done.err


ONE = f"token={quote(LABEL)}"
OBJECT = f"object={quote(KEY_LABEL)}"


@pytest.mark.parametrize(
    "attributes",
    [
        f"{ONE};{OBJECT};type=private",
        f"{ONE};{OBJECT};type=public",
        ONE,
        f"{ONE};id=%ff%25%00",
        f"{ONE};id=%FF%25%00;{OBJECT}",
        "serial={serial}",
        f"serial={{serial}};slot-id={{slot}};{ONE};{OBJECT};id=%ff%25%00",
        "model=SoftHSM%20v2;serial={serial}",
        "model=SoftHSM v2;manufacturer=SoftHSM project;serial={serial}",
        "library-manufacturer=SoftHSM;library-description=Implementation of PKCS11;serial={serial}",
        f"token={LABEL};object={quote(KEY_LABEL)}",
        "token=many;object=twin;id=%01",
        f"{ONE}?module-path={{module}}",
    ],
)
def test_a_uri_finds_its_key(desk: Desk, signature: bytes, attributes: str) -> None:
    """Whatever attributes name a key, percent-encoded or not, it signs as openssl does, without a word."""
    assert desk.sign(f"pkcs11:{desk.store.text(attributes)}") == Done(0, signature, "")


@pytest.mark.parametrize("variable", ["missing.so", ""])
def test_the_module_of_the_uri_comes_first(desk: Desk, signature: bytes, variable: str) -> None:
    """The module-path is used whatever PKCS11_MODULE_PATH says."""
    env = {**desk.env, "PKCS11_MODULE_PATH": variable}
    assert desk.sign(f"pkcs11:{ONE}?module-path={desk.store.module}", env=env) == Done(0, signature, "")


@pytest.mark.parametrize("variable", [None, ""])
def test_the_proxy_of_p11_kit(desk: Desk, signature: bytes, variable: str | None) -> None:
    """Where no module is named, p11-kit's proxy finds the token."""
    need("p11-kit")
    env = {name: text for name, text in desk.env.items() if name != "PKCS11_MODULE_PATH"}
    env |= {} if variable is None else {"PKCS11_MODULE_PATH": variable}
    only_if(LABEL in desk.run("p11-kit", "list-modules", env=env).out.decode(), "p11-kit is not told of SoftHSM")
    assert desk.sign(f"pkcs11:{ONE}", env=env) == Done(0, signature, "")


@pytest.mark.parametrize(("source", "end"), [("file:", ""), ("file://", "\n"), ("", "\r\nmore\n")])
def test_a_pin_source(desk: Desk, signature: bytes, source: str, end: str) -> None:
    """The pin-source of a URI is a file, as a path or a file URI, and nobody is asked."""
    path = desk.write("pin code", f"{PIN}{end}".encode())
    uri = f"pkcs11:{ONE}?pin-source={source}{quote(str(path))}&module-path={desk.store.module}"
    assert desk.run("tok-sign", "-k", uri, stdin=LINE, start_new_session=True) == Done(0, signature, "")


@pytest.mark.parametrize("source", ["env:PIN", "file:pin", "fd:3"])
def test_a_pin_from_passin(desk: Desk, signature: bytes, source: str) -> None:
    """The PIN comes from where --passin says, as a pass phrase does."""
    desk.write("pin", f"{PIN}\n".encode())
    command = f"tok-sign -k 'pkcs11:{ONE}' --passin {source} 3<pin"
    assert desk.sh(command, stdin=LINE) == Done(0, signature, "")


# The prompt.


@pytest.mark.parametrize("attributes", [ONE, "token=many;object=always"])
def test_one_prompt_for_all_digests(desk: Desk, keys: Path, attributes: str) -> None:
    """The PIN is asked for once, unseen, on the terminal, however many digests come and however often it is needed."""
    with terminal(desk, "tok-sign", "-k", f"pkcs11:{attributes}", stdin=LINES) as session:
        session.answer(PIN)
        done = session.end()
        label = LABEL if attributes == ONE else "many"
        assert session.shown.decode() == f"Enter PIN for token {label}: \r\n"
        assert session.echoes()
    assert done == desk.run("tok-sign", "-k", keys / "pkcs8.pem", stdin=LINES)
    assert done.out.count(b"\n") == len(DIGESTS)


def test_a_wrong_answer(desk: Desk) -> None:
    """A wrong PIN at the prompt is not shown, and not asked for again: each try counts."""
    with terminal(desk, "tok-sign", "-k", f"pkcs11:{ONE}", stdin=LINES) as session:
        session.answer(WRONG)
        assert session.end() == Done(2, b"", f"tok-sign: token {LABEL}: wrong PIN\n")
        assert session.shown.count(b"Enter") == 1
        assert WRONG.encode() not in session.shown
        assert session.echoes()


def test_public_key(desk: Desk, keys: Path) -> None:
    """A signature is verified with a key on a token; a person is asked for its PIN. It is written as PEM, too."""
    written = desk.run("tok-sign", "-k", f"pkcs11:{ONE}", "--passin", "env:PIN", "--public-key")
    assert written == Done(0, (keys / "spki.pem").read_bytes(), "")
    signed = "tok-extract f.json | tok-sign -k {key} | tok-merge -p {key} -i f.json"
    desk.sh(signed.format(key=keys / "pkcs8.pem")).check(0)
    with terminal(desk, "tok-verify", "-q", "-p", f"pkcs11:{ONE}", "f.json") as session:
        session.answer(PIN)
        assert session.end() == Done(0, b"", "")
    done = desk.run("tok-exec", "-p", f"pkcs11:{ONE}", "true", stdin=LINE, start_new_session=True)
    done.check(
        2, f"token {LABEL}: there is no terminal to ask for the PIN\n", "hint: use pin-source=file:PATH in the URI\n"
    )


# What is refused.


PIN_VALUE = "every user of the machine can read a pin-value"
NOT_KNOWN = "is not an attribute of a pkcs11 URI"
ON_ONE = f"token {LABEL}: "


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (f"{ONE};pin-value={{pin}}", PIN_VALUE),
        (f"{ONE}?pin-value={{pin}}", PIN_VALUE),
        (f"{ONE}?module-path={{module}}&pin-value={{pin}}", PIN_VALUE),
        # Slips of the pen, which must not bring the PIN into the message.
        (f"{ONE}?module-path={{module}};pin-value={{pin}}", PIN_VALUE),
        (f"{ONE}&pin-value={{pin}}", PIN_VALUE),
        (f"{ONE};PIN-VALUE={{pin}}", ""),
        (f"{ONE};pin%2Dvalue={{pin}}", ""),
        (f"{ONE};colour=red", f"colour {NOT_KNOWN}"),
        (f"{ONE}?object=x", f"object {NOT_KNOWN}"),
        (f"{ONE};\x1b[2J=x", f"\\x1b[2J {NOT_KNOWN}"),
        (f"{ONE};{ONE}", "token occurs twice in the pkcs11 URI"),
        (f"{ONE};object=missing", f"{ON_ONE}no private key matches\n"),
        (f"{ONE};object=missing", f"hint: choose one with {OBJECT};id=%FF%25%00\n"),
        (f"{ONE};object=\udcff", f"{ON_ONE}no private key matches\n"),
        ("token=many;object=twin", "token many: 2 private keys match\n"),
        ("token=many", "token many: 7 private keys match\n"),
        ("token=missing", "{module}: no token matches\n"),
        ("token=missing", f"{ONE};serial={{serial}}"),
        (f"token={quote(LABEL)[:-6]}", "{module}: no token matches\n"),
        (f"{ONE};serial=0", "{module}: no token matches\n"),
        (f"{ONE};model=SoftHSM", "{module}: no token matches\n"),
        (f"{ONE};slot-manufacturer=Yubico", "{module}: no token matches\n"),
        (f"{ONE};library-manufacturer=Yubico", "{module}: no token matches\n"),
        (f"{ONE};library-version=0", "{module}: no token matches\n"),
        (f"{ONE};id=ff2500", "choose one with"),
        ("token=many;object=twin", "hint: choose one with object=twin;id=%01, object=twin;id=%02\n"),
        ("token=double", "{module}: 2 tokens match\n"),
        ("model=SoftHSM%20v2", "{module}: 4 tokens match\n"),
        ("token=many;object=curve", "token many: the key is EC, but CloudHSM takes only RSA keys\n"),
        ("token=many;object=small", "pkcs11:token=many;object=small: the key is RSA-1024, but CloudHSM takes RSA-2048"),
        ("token=many;object=no%20sign", "the key is not allowed to sign (CKA_SIGN)\n"),
        (f"{ONE}?module-path=%2Ff.json", "/f.json: cannot be used: "),
        (f"{ONE}?module-path=/%ff.so", "/\\xff.so: cannot be used"),
        (f"{ONE}?pin-source=/missing", "pin-source: /missing: no such file or directory"),
        (f"{ONE}?pin-source=", "pin-source: "),
        (f"{ONE}?pin-source=%7Ccat%20pin", "pin-source: |cat pin: no such file or directory\n"),
        (f"{ONE}?pin-source=/dev/stdin", "a secret cannot come from standard input\n"),
    ],
)
def test_what_a_uri_does_not_name(desk: Desk, attributes: str, said: str) -> None:
    """A URI that names no key, not just one, or none that may sign is one clear line, and nothing is signed."""
    assert_refused(desk.sign(f"pkcs11:{desk.store.text(attributes)}"), desk.store.text(said))


@pytest.mark.parametrize("scheme", ["PKCS11", "Pkcs11"])
def test_a_scheme_has_no_case(desk: Desk, signature: bytes, scheme: str) -> None:
    """The scheme of a URI may be written large (RFC 3986, section 3.1), and guards the PIN alike."""
    assert_refused(desk.sign(f"{scheme}:{ONE}?pin-value={quote(PIN)}"), PIN_VALUE)
    assert desk.sign(f"{scheme}:{ONE}") == Done(0, signature, "")


@pytest.mark.parametrize("content", [None, b"", b"no library", b"\x7fELF"], ids=["missing", "empty", "text", "ELF"])
def test_a_module_that_is_none(desk: Desk, content: bytes | None) -> None:
    """A module that is missing or no library is named in one line, with a hint at what names the right one."""
    if content is not None:
        desk.write("module.so", content)
    env = {**desk.env, "PKCS11_MODULE_PATH": "./module.so"}
    done = desk.sign(f"pkcs11:{ONE}", env=env)
    assert_refused(
        done, "tok-sign: ./module.so: cannot be used: ", "hint: name the token's module with module-path in the URI"
    )


@pytest.mark.parametrize(
    ("pin", "said"),
    [
        (WRONG, "wrong PIN"),
        (f"{PIN} ", "wrong PIN"),
        ("", "the PIN is empty"),
        ("7291" * 300, "the PIN is longer than 1023 bytes"),
        ("7291\udcff", "wrong PIN: not UTF-8"),
    ],
)
def test_a_wrong_pin(desk: Desk, pin: str, said: str) -> None:
    """A wrong, empty, endless or binary PIN is one line that names the token and does not show the PIN."""
    desk.write("pin", os.fsencode(pin))
    for done in (
        desk.sign(f"pkcs11:{ONE}", env={**desk.env, "PIN": pin}),
        desk.sign(f"pkcs11:{ONE}", "file:pin"),
        desk.sign(f"pkcs11:{ONE}?pin-source=pin", "env:NONE"),
    ):
        assert_refused(done)
        assert done.err == f"tok-sign: token {LABEL}: {said}\n"


def test_without_python_pkcs11(shell: Shell) -> None:
    """Where the package is not installed, one line says so, and the next how to install it."""
    script = f"import sys; sys.modules['pkcs11'] = None; {SIGN}"
    done = shell.run(shell.bin / "python", "-c", script, "-k", "pkcs11:token=x", stdin=LINE, own=True)
    said = "a key on a PKCS#11 token needs the package python-pkcs11"
    hint = "pip install 'toktools[pkcs11]', pipx inject toktools python-pkcs11, or the bundle's install.sh"
    assert done == Done(2, b"", f"tok-sign: {said}\ntok-sign: hint: {hint}\n")


def test_a_larger_key(desk: Desk, keys: Path) -> None:
    """RSA-3072 on a token signs as openssl does, with a warning that names the URI without its query."""
    uri = "pkcs11:token=many;object=large"
    warning = f"tok-sign: warning: {uri}: the key is RSA-3072; CloudHSM documents only RSA-2048\n"
    done = desk.sign(f"{uri}?module-path={desk.store.module}")
    assert done == Done(0, openssl_signature(keys, "rsa3072.pem"), warning)


# Where the PIN does not go.


AUDITED = """
import sys
def audit(event, _):
    if event.startswith(("subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "os.putenv", "pty.")):
        print(event, file=sys.stderr)
sys.addaudithook(audit)
"""


def test_no_child_is_started(desk: Desk, signature: bytes) -> None:
    """From its first import to its end, tok-sign starts no process and sets no variable for one."""
    words = ["-k", f"pkcs11:{ONE}", "--passin", "env:PIN"]
    done = desk.run(desk.bin / "python", "-c", AUDITED + SIGN, *words, stdin=LINE, env=desk.unmeasured)
    assert done == Done(0, signature, "")


# Tokens that behave as SoftHSM never does, in this process.


class Card:
    """A module with one token, which holds one key."""

    def __init__(self, private_key: RSAPrivateKey) -> None:
        need("pkcs11")
        from pkcs11 import Attribute, KeyType, PrivateKey, TokenFlag
        from pkcs11.types import SignMixin

        numbers = private_key.public_key().public_numbers()
        self.flags = TokenFlag.TOKEN_INITIALIZED | TokenFlag.LOGIN_REQUIRED
        self.attributes: dict[object, object] = {
            Attribute.MODULUS: numbers.n.to_bytes(256, "big"),
            Attribute.PUBLIC_EXPONENT: b"\x01\x00\x01",
            Attribute.ALWAYS_AUTHENTICATE: False,
        }
        self.logins: list[object] = []
        self.signed_with: list[object] = []
        self.refusal: Exception | None = None

        class SigningKey(PrivateKey, SignMixin):
            """A key that may sign."""

        self.key = mock.MagicMock(spec=SigningKey, key_type=KeyType.RSA)
        self.key.__getitem__.side_effect = self._read
        self.key.sign.side_effect = self._sign
        self.private_key = private_key

    def _read(self, attribute: object) -> object:
        from pkcs11 import AttributeTypeInvalid

        if attribute not in self.attributes:
            raise AttributeTypeInvalid
        return self.attributes[attribute]

    def _sign(self, block: bytes, mechanism: object, pin: object = None) -> bytes:
        from pkcs11 import Mechanism

        assert mechanism == Mechanism.RSA_PKCS
        assert block.startswith(DIGEST_INFO)
        self.signed_with.append(pin)
        return self.private_key.sign(block.removeprefix(DIGEST_INFO), PKCS1v15(), Prehashed(SHA256()))

    def _open(self, user_pin: object) -> SimpleNamespace:
        self.logins.append(user_pin)
        if self.refusal is not None:
            raise self.refusal
        return SimpleNamespace(get_objects=lambda _: [self.key])

    def find(self) -> tuple[Signer, list[str]]:
        """Find the key as tok-sign does, with a person who knows the PIN."""
        named = {"label": "card", "manufacturer_id": "maker", "model": "model", "serial": b"1"}
        slot = SimpleNamespace(slot_id=0, slot_description="slot", manufacturer_id="maker")
        token = SimpleNamespace(**named, flags=self.flags, open=self._open, slot=slot)
        about = {
            "manufacturer_id": "maker",
            "library_description": "a module",
            "library_version": (1, 2),
            "finalize": lambda: None,
        }
        library = SimpleNamespace(**about, get_tokens=lambda **_: [token])
        with mock.patch("pkcs11.lib", return_value=library):
            warnings: list[str] = []
            source = mock.Mock(spec=Source, read=mock.Mock(return_value=PIN.encode()))
            return key_room.open_signer("pkcs11:token=card", source, warnings.append), warnings

    def refused(self) -> str:
        """Return why the key is not found."""
        with pytest.raises(ToktoolsError) as caught:
            self.find()
        assert PIN not in caught.value.message + caught.value.hint
        assert "\n" not in caught.value.message
        return caught.value.message


@pytest.mark.parametrize(("pin", "calls"), [(PIN, {"C_Login", "C_Sign"}), (WRONG, {"C_Login"})])
def test_the_token_is_left(desk: Desk, pin: str, calls: set[str]) -> None:
    """The last that the module hears is C_Finalize, whatever came before."""
    heard = desk.cwd / "heard"
    spy = need("pkcs11-spy.so")
    env = {**desk.env, "PKCS11SPY": desk.store.module, "PKCS11SPY_OUTPUT": str(heard), "PIN": pin}
    desk.sign(f"pkcs11:{ONE}?module-path={spy}", env=env, own=True).check(0 if "C_Sign" in calls else 2)
    heard_calls = re.findall(r"^\d+: (C_\w+)", heard.read_text(), re.MULTILINE)
    assert heard_calls[-1] == "C_Finalize"
    assert heard_calls.count("C_Finalize") == 1
    assert {*heard_calls} & {"C_Login", "C_Sign"} == calls


@pytest.fixture
def private_key(keys: Path) -> RSAPrivateKey:
    key = load_pem_private_key((keys / "pkcs8.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


@pytest.fixture
def card(private_key: RSAPrivateKey) -> Card:
    return Card(private_key)


def test_a_card(card: Card, private_key: RSAPrivateKey) -> None:
    """The stand-in of these tests signs after one login, without a warning, and one digest at a time."""
    key, warnings = card.find()
    assert key.max_parallel(7) == 1
    assert verifies(private_key.public_key(), DIGESTS[0], key.sign(DIGESTS[0]))
    assert (card.logins, card.signed_with, warnings) == ([PIN], [None], [])


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("PinLocked", "token card: the PIN is locked"),
        ("PinIncorrect", "token card: wrong PIN"),
        ("PinInvalid", "token card: wrong PIN"),
        ("PinLenRange", "token card: wrong PIN"),
        ("PinExpired", "PKCS#11: PinExpired"),
        ("UserPinNotInitialized", "PKCS#11: UserPinNotInitialized"),
        ("DeviceRemoved", "PKCS#11: DeviceRemoved"),
        (None, "token card: the PIN is locked"),
    ],
)
def test_a_login_that_is_refused(card: Card, refusal: str | None, said: str) -> None:
    """Whatever a token has against a login is one line, after one try, or none if the token says before: locked."""
    import pkcs11

    if refusal:
        card.refusal = getattr(pkcs11, refusal)()
    else:
        card.flags |= pkcs11.TokenFlag.USER_PIN_LOCKED
    assert card.refused() == said
    assert card.logins == ([PIN] if refusal else [])


def test_the_last_try(card: Card) -> None:
    """Who has one try left is told so before the PIN is asked for, of a person, whatever --passin says."""
    from pkcs11 import TokenFlag

    card.flags |= TokenFlag.USER_PIN_FINAL_TRY
    asked = mock.Mock(return_value=b"typed")
    with (
        mock.patch("toktools.system.prompt.has_terminal", return_value=True),
        mock.patch("toktools.system.prompt.Source.ask", return_value=mock.Mock(read=asked)),
    ):
        assert card.find()[1] == ["token card: one try is left before it locks the PIN"]
    asked.assert_called_once_with("token card", "PIN")
    with mock.patch("toktools.system.prompt.has_terminal", return_value=False):
        assert card.refused() == "token card: the last try needs a person at a terminal, and there is no terminal"
    assert card.logins == ["typed"]


def test_a_token_without_a_pin(card: Card) -> None:
    """If the PIN is typed at the reader, or no login is needed, nobody is asked for it here."""
    from pkcs11 import PROTECTED_AUTH, TokenFlag

    card.flags |= TokenFlag.PROTECTED_AUTHENTICATION_PATH
    card.find()[0].sign(DIGESTS[0])
    card.flags &= ~TokenFlag.LOGIN_REQUIRED
    card.find()
    assert (card.logins, card.signed_with) == ([PROTECTED_AUTH, None], [None])


@pytest.mark.parametrize(("always", "pin"), [(False, None), (True, PIN)])
def test_logins(card: Card, always: bool, pin: str | None) -> None:  # noqa: FBT001
    """There is one login to the token, and, with CKA_ALWAYS_AUTHENTICATE alone, another for each signature."""
    from pkcs11 import Attribute

    card.attributes[Attribute.ALWAYS_AUTHENTICATE] = always
    key, _ = card.find()
    for digest in DIGESTS:
        key.sign(digest)
    assert (card.logins, card.signed_with) == ([PIN], [pin] * len(DIGESTS))


def test_numbers_that_the_token_keeps(card: Card, private_key: RSAPrivateKey) -> None:
    """Without the public exponent it is the usual one; with a wrong one nothing is signed."""
    from pkcs11 import Attribute

    card.attributes[Attribute.PUBLIC_EXPONENT] = b""
    assert card.find()[0].public_key == private_key.public_key()
    del card.attributes[Attribute.PUBLIC_EXPONENT]
    assert card.find()[0].public_key == private_key.public_key()
    card.attributes[Attribute.PUBLIC_EXPONENT] = b"\x03"
    with pytest.raises(ToktoolsError, match="the key is broken, or its signer made a mistake"):
        card.find()[0].sign(DIGESTS[0])


@pytest.mark.parametrize(
    ("modulus", "said"),
    [
        *((number, "the token gives no valid modulus of the key (CKA_MODULUS)") for number in (b"", 0, 1)),
        (1 << 2047, "the key is broken, or its signer made a mistake: not made by the given key"),
        (1 << 2048, "pkcs11:token=card: the key is RSA-2049, but CloudHSM takes RSA-2048"),
        (1 << 999_999, "pkcs11:token=card: the key is RSA-1000000, but CloudHSM takes RSA-2048"),
    ],
    ids=["none", "0", "1", "even", "large", "huge"],
)
def test_a_broken_modulus(card: Card, modulus: int | bytes, said: str) -> None:
    """A number that is none of RSA is one line, and nothing is signed."""
    from pkcs11 import Attribute

    number = modulus.to_bytes(modulus.bit_length() // 8 + 1, "big") if isinstance(modulus, int) else modulus
    card.attributes[Attribute.MODULUS] = number
    with pytest.raises(ToktoolsError) as caught:
        card.find()[0].sign(DIGESTS[0])
    assert caught.value.message.startswith(said)


@pytest.mark.parametrize("error", [ValueError, struct.error])
def test_broken_attributes(card: Card, error: type[Exception]) -> None:
    """What the package cannot decode counts as not there."""
    card.key.__getitem__.side_effect = error
    assert card.refused() == "the token gives no valid modulus of the key (CKA_MODULUS)"


def test_a_card_that_is_pulled_out(card: Card) -> None:
    """A token that fails in the midst of signing is one line, and no traceback."""
    from pkcs11 import DeviceRemoved

    key, _ = card.find()
    card.key.sign.side_effect = DeviceRemoved
    with pytest.raises(ToktoolsError, match=r"^PKCS#11: DeviceRemoved$"):
        key.sign(DIGESTS[0])

"""Keys from files, in this process: every form is read, and every number is looked at."""

from __future__ import annotations

import datetime as dt
import hashlib
import sys
from base64 import b64encode, encodebytes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asn1 import value
from conftest import need, rsa_key
from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, PublicFormat, pkcs12

from toktools import keys
from toktools.errors import ToktoolsError
from toktools.keys import allowed, der, file, forms, pbes, public, signer

KEY = rsa_key()
PHRASE = b"correct horse"
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "officer1")])
DIGEST = hashlib.sha256(b"token").digest()


def certificate(key: Any = KEY) -> x509.Certificate:
    day = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - as an older library takes it
    builder = x509.CertificateBuilder(NAME, NAME, key.public_key(), 1, day, day + dt.timedelta(1))
    return builder.sign(key, hashes.SHA256())


def private(encoding: Encoding, form: PrivateFormat, phrase: bytes = b"", key: Any = KEY) -> bytes:
    lock = serialization.BestAvailableEncryption(phrase) if phrase else serialization.NoEncryption()
    return bytes(key.private_bytes(encoding, form, lock))


def packed(key: Any = KEY, phrase: bytes = b"") -> bytes:
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1000)
    lock = builder.build(phrase) if phrase else serialization.NoEncryption()
    return pkcs12.serialize_key_and_certificates(None, key, certificate(key), None, lock)


PEM, DER = Encoding.PEM, Encoding.DER
PKCS1, PKCS8 = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8
PLAIN = {
    "pkcs1.pem": private(PEM, PKCS1),
    "pkcs1.der": private(DER, PKCS1),
    "pkcs8.pem": private(PEM, PKCS8),
    "pkcs8.der": private(DER, PKCS8),
    "openssh": private(PEM, PrivateFormat.OpenSSH),
}
LOCKED = {
    "old.pem": private(PEM, PKCS1, PHRASE),
    "pkcs8.pem": private(PEM, PKCS8, PHRASE),
    "pkcs8.der": private(DER, PKCS8, PHRASE),
    "p12": packed(phrase=PHRASE),
}
PUBLIC = {
    "spki.pem": KEY.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo),
    "spki.der": KEY.public_key().public_bytes(DER, PublicFormat.SubjectPublicKeyInfo),
    "pkcs1.pem": KEY.public_key().public_bytes(PEM, PublicFormat.PKCS1),
    "pkcs1.der": KEY.public_key().public_bytes(DER, PublicFormat.PKCS1),
    "openssh": KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "certificate.pem": certificate().public_bytes(PEM),
    "certificate.der": certificate().public_bytes(DER),
}


class Asked:
    """Gives a pass phrase, counts how often it was asked for, and keeps the warnings."""

    def __init__(self, phrase: bytes = PHRASE) -> None:
        self.phrase = phrase
        self.times = 0
        self.warned: list[str] = []

    def __call__(self, _name: str, what: str) -> bytes:
        assert what == "pass phrase"
        self.times += 1
        return self.phrase


def opened(folder: Path, content: bytes, asked: Asked, mode: int = 0o600) -> signer.Signer:
    (folder / "k").write_bytes(content)
    (folder / "k").chmod(mode)
    return keys.open_signer(str(folder / "k"), asked, asked.warned.append)


def refused(call: Callable[[], object]) -> str:
    """Return what a refusal says after the name of the file."""
    with pytest.raises(ToktoolsError) as raised:
        call()
    place, _, said = raised.value.message.partition(": ")
    assert place.endswith("k")
    return said


@pytest.mark.parametrize("name", PLAIN)
def test_plain_private_keys(tmp_path: Path, name: str) -> None:
    """Nobody is asked, and the signature is the key's own; the same file is a public key as well."""
    asked = Asked()
    key = opened(tmp_path, PLAIN[name], asked)
    signature = key.sign(DIGEST)
    KEY.public_key().verify(signature, DIGEST, *file.KeyInMemory(KEY)._how)  # noqa: SLF001 - the one way to sign
    assert (asked.times, asked.warned) == (0, [])
    assert public.read(str(tmp_path / "k")).public_numbers() == KEY.public_key().public_numbers()


@pytest.mark.parametrize("name", LOCKED)
def test_locked_private_keys(tmp_path: Path, name: str) -> None:
    """The pass phrase is asked for once; a wrong one is told as such; to verify, none is asked for."""
    asked = Asked()
    assert len(opened(tmp_path, LOCKED[name], asked).sign(DIGEST)) == 256
    assert asked.times == 1
    wrong = Asked(b"wrong")
    assert refused(lambda: opened(tmp_path, LOCKED[name], wrong)) == "wrong pass phrase"
    assert wrong.times == 1
    said = refused(lambda: public.read(str(tmp_path / "k")))
    assert said == ("a PKCS#12 file" if name == "p12" else "an encrypted private key") + (
        ", but only the public key is needed"
    )


def test_pkcs12_without_a_pass_phrase(tmp_path: Path) -> None:
    """Nobody is asked; a broken file is told as such."""
    asked = Asked()
    assert len(opened(tmp_path, packed(), asked).sign(DIGEST)) == 256
    assert asked.times == 0
    content = packed()
    assert refused(lambda: opened(tmp_path, content[:25] + b"\xff" + content[26:], asked)) == "a broken PKCS#12 file"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_keys(tmp_path: Path, name: str) -> None:
    """Each verifies, from a file or a text, and none signs."""
    (tmp_path / "k").write_bytes(PUBLIC[name])
    for key in (public.read(str(tmp_path / "k")), public.parse(PUBLIC[name], "k")):
        assert key.public_numbers() == KEY.public_key().public_numbers()
    assert public.pem(key) == PUBLIC["spki.pem"].decode()
    assert refused(lambda: opened(tmp_path, PUBLIC[name], Asked())) == ("a public key, but the private key is needed")


def test_the_first_key_of_a_file(tmp_path: Path) -> None:
    """A private key may stand behind its certificate, and a public key before another's."""
    other = certificate(rsa_key("stranger")).public_bytes(PEM)
    opened(tmp_path, other + PLAIN["pkcs8.pem"], Asked()).sign(DIGEST)
    assert public.parse(PUBLIC["certificate.pem"] + other, "k").public_numbers() == KEY.public_key().public_numbers()
    assert public.parse(other + PUBLIC["spki.pem"], "k").public_numbers() == KEY.public_key().public_numbers()


@pytest.mark.parametrize("form", [PKCS8, PKCS1])
@pytest.mark.parametrize("encoding", [PEM, DER])
def test_keys_of_another_kind(tmp_path: Path, encoding: Encoding, form: PrivateFormat) -> None:
    """They are named, as private and as public keys."""
    key = ec.generate_private_key(ec.SECP256R1())
    said = "the key is EllipticCurve, but CloudHSM takes only RSA keys"
    content = private(encoding, form, key=key)
    assert refused(lambda: opened(tmp_path, content, Asked())).replace("EC,", "EllipticCurve,") == said
    assert refused(lambda: public.parse(content, "k")).replace("EC,", "EllipticCurve,") == said


def test_what_is_no_key(tmp_path: Path) -> None:
    """It is refused for what it is; an empty file, one too large, and standard input too."""
    assert "no private key in PEM or DER" in refused(lambda: opened(tmp_path, b"x" * 100, Asked()))
    assert "no public key, certificate or private key" in refused(lambda: public.parse(b"x" * 100, "k"))
    assert refused(lambda: opened(tmp_path, b"", Asked())) == "an empty file, not a key"
    with pytest.raises(ToktoolsError, match=r"^-: a key cannot come from standard input$"):
        keys.open_signer("-", Asked(), print)
    forms.KeyFile("k", b"x" * forms.MAX_SIZE)
    assert refused(lambda: forms.KeyFile("k", b"x" * (forms.MAX_SIZE + 1))) == f"larger than {1 << 20} bytes"


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("AES-256-CBC," + "0" * 32, False),
        ("AES-256-CBC," + "0" * 30, True),
        ("AES-256-CBC," + "0" * 34, True),
        ("AES-256-CBC," + "0" * 16, True),
        ("DES-EDE3-CBC," + "0" * 16 + " ", False),
        ("DES-EDE3-CBC," + "0" * 14, True),
        ("DES-EDE3-CBC," + "0" * 32, True),
        ("CAMELLIA-256-CBC," + "0" * 2, False),
        ("AES-256-CBC", False),
    ],
)
def test_the_old_encryption(tmp_path: Path, line: str, broken: bool) -> None:  # noqa: FBT001 - pytest gives it
    """An initialization vector of a wrong size never comes to the library."""
    head, _, body = LOCKED["old.pem"].partition(b"DEK-Info: ")
    content = head + b"DEK-Info: " + line.encode() + b"\n" + body.partition(b"\n")[2]
    said = refused(lambda: opened(tmp_path, content, Asked()))
    assert ("a broken key: its DEK-Info line is wrong" in said) == broken


SHA256, AES256, SCRYPT = "2a864886f70d0209", "60864801650304012a", "2b06010401da47040b"
CIPHERS = {AES256: 32, "608648016503040116": 24, "608648016503040102": 16, "2a864886f70d0307": 24}
HASHES = {
    f"2a864886f70d02{number:02x}": name
    for number, name in zip(range(7, 12), ("sha1", "sha224", "sha256", "sha384", "sha512"))
}


def padded(plain: bytes, block: int = 16) -> bytes:
    size = block - len(plain) % block
    return plain + bytes([size]) * size


def locked(plain: bytes, cipher: str = AES256, function: str = SHA256, *numbers: bytes) -> bytes:
    """PKCS#8 as openssl encrypts it, whole blocks given: PBES2 with PBKDF2 or scrypt, and a cipher in CBC mode."""
    salt, vector = b"saltsalt", b"v" * (8 if cipher.startswith("2a") else 16)
    size = CIPHERS[cipher]
    if function == SCRYPT:
        key = hashlib.scrypt(PHRASE, salt=salt, n=16, r=2, p=3, dklen=size)
        rest = [*(value(2, bytes([number])) for number in (16, 2, 3)), *numbers]
    else:
        key = hashlib.pbkdf2_hmac(HASHES.get(function, "sha1"), PHRASE, salt, 2048, size)
        named = [value(48, value(6, bytes.fromhex(function)), b"\5\0")] if function else []
        rest = [value(2, b"\x08\0"), *numbers, *named]
    encryptor = Cipher(AES(key) if len(vector) == 16 else TripleDES(key), CBC(vector)).encryptor()
    content = encryptor.update(plain) + encryptor.finalize()
    oids = ("2a864886f70d01050d", SCRYPT if function == SCRYPT else "2a864886f70d01050c", cipher)
    pbes2, derivation, algorithm = (value(6, bytes.fromhex(oid)) for oid in oids)
    derive = value(48, derivation, value(48, value(4, salt), *rest))
    return value(48, value(48, pbes2, value(48, derive, value(48, algorithm, value(4, vector)))), value(4, content))


def unlocked(content: bytes, phrase: bytes = PHRASE) -> bytes | None:
    (encrypted,) = forms.encrypted_keys(content)
    return pbes.decrypt(encrypted, phrase)


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("function", [*HASHES, "", SCRYPT])
def test_every_way_to_lock(cipher: str, function: str) -> None:
    """Each cipher goes with each hash, the one that is not named too, and with scrypt."""
    content = locked(padded(b"plain", 8 if cipher.startswith("2a") else 16), cipher, function)
    assert unlocked(content) == b"plain"
    assert unlocked(content, b"wrong") == b""


def test_ways_to_lock_that_are_not_known() -> None:
    """They are left to the library; the length of the key, which may be told, changes nothing."""
    for function in (SHA256, SCRYPT):
        assert unlocked(locked(padded(b"plain"), AES256, function, value(2, b"\x20"))) == b"plain"
    content = locked(padded(b"plain"))
    for oid in ("2a864886f70d01050d", "2a864886f70d01050c", SHA256, AES256):
        known = bytes.fromhex(oid)
        assert unlocked(content.replace(known, known[:-1] + b"\x7f")) is None


@pytest.mark.parametrize(
    ("blocks", "plain"),
    [
        (b"x" * 15 + b"\x01", b"x" * 15),
        (b"x" * 14 + b"\x02" * 2, b"x" * 14),
        (b"\x10" * 16, b""),
        (b"x" * 16 + b"\x10" * 16, b"x" * 16),
        (b"x" * 15 + b"\x11" * 17, b""),
        (b"x" * 15 + b"\x02", b""),
        (b"x" * 16 + b"\0" * 16, b""),
        (b"", b""),
    ],
)
def test_what_fills_the_last_block(blocks: bytes, plain: bytes) -> None:
    """From 1 byte to a whole block, each with their number; anything else comes of a wrong pass phrase."""
    assert unlocked(locked(blocks)) == plain


def test_half_a_block() -> None:
    """It is left to the library, which says what is wrong with it."""
    aes = bytes.fromhex(AES256)
    assert pbes._decrypted(aes, bytes(32), bytes(16), b"x" * 15) is None  # noqa: SLF001 - no cipher writes that


@pytest.mark.parametrize("size", [5, 32, 40])
def test_the_encryption_of_older_pkcs12(size: int) -> None:
    """Triple DES with a key made by SHA-1, from pass phrases of any length."""
    phrase = (PHRASE * 4)[:size]
    builder = PrivateFormat.PKCS12.encryption_builder().kdf_rounds(1000).hmac_hash(hashes.SHA1())
    lock = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).build(phrase)
    content = pkcs12.serialize_key_and_certificates(None, KEY, None, None, lock)
    assert PLAIN["pkcs8.der"] in [pbes.decrypt(encrypted, phrase) for encrypted in forms.encrypted_keys(content)]


def test_what_is_locked_is_judged_too(tmp_path: Path) -> None:
    """A key for another padding is named for that, before a library reads it."""
    plain = PLAIN["pkcs8.der"]
    assert len(opened(tmp_path, locked(padded(plain)), Asked()).sign(DIGEST)) == 256
    pss = plain.replace(forms.RSA, forms.RSA[:-1] + b"\x0a", 1)
    for content in (pss, locked(padded(pss))):
        said = refused(lambda content=content: opened(tmp_path, content, Asked()))  # type: ignore[misc]
        assert said == "the key is only for RSASSA-PSS, but CloudHSM takes RSASSA-PKCS1-v1_5"
    assert refused(lambda: opened(tmp_path, locked(padded(b"no key" * 50)), Asked())) == "wrong pass phrase"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_key_that_others_can_read(tmp_path: Path, mode: int) -> None:
    """It gets a warning."""
    asked = Asked()
    opened(tmp_path, PLAIN["pkcs8.der"], asked, mode)
    said = f"{tmp_path}/k: others can read this private key (mode 0644; chmod 600 closes it)"
    assert asked.warned == ([] if mode == 0o600 else [said])


@pytest.mark.parametrize(("bits", "said"), [(1024, "RSA-1024, but CloudHSM takes RSA-2048"), (2056, "multiple of 64")])
def test_sizes_of_keys(tmp_path: Path, bits: int, said: str) -> None:
    """Too short a key, or one of an odd size, is refused, private and public."""
    key = rsa_key("somebody", bits)
    assert said in refused(lambda: opened(tmp_path, private(PEM, PKCS8, key=key), Asked()))
    for content in (certificate(key).public_bytes(PEM), private(DER, PKCS1, key=key)):
        assert said in refused(lambda content=content: public.parse(content, "k"))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("bits", "well"),
    [
        (2047, False),
        (2048, True),
        (2049, False),
        (2052, False),
        (2056, False),
        (2112, True),
        (16384, True),
        (16448, False),
    ],
)
def test_which_sizes_are_allowed(bits: int, well: bool) -> None:  # noqa: FBT001 - pytest gives it
    """From 2,048 bits on in a multiple of 64, up to 16,384."""
    if well:
        allowed.refuse_size("k", bits)
    else:
        assert f"RSA-{bits}, but" in refused(lambda: allowed.refuse_size("k", bits))


def test_a_longer_key_gets_a_warning(tmp_path: Path) -> None:
    """CloudHSM documents one size; the pace of a longer key is another too."""
    asked = Asked()
    longer = opened(tmp_path, private(PEM, PKCS8, key=rsa_key("somebody", 2112)), asked)
    assert asked.warned == [f"{tmp_path}/k: the key is RSA-2112; CloudHSM documents only RSA-2048"]
    assert [longer.pace(jobs) for jobs in (1, 2)] == [(1, True), (2, False)]
    quick = opened(tmp_path, PLAIN["pkcs8.pem"], asked)
    assert [quick.pace(jobs) for jobs in (1, 2)] == [(1, True), (2, True)]
    assert quick.pace(None)[0] >= 1


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("arn:aws:kms:k", "for a key in AWS KMS, write awskms:///ARN"),
        ("alias/k", "for a key in AWS KMS, write awskms:///alias/NAME"),
        ("file:k", "-k takes only the path, without file:"),
        ("~/k", "the shell replaces ~ with your home folder only if it is not quoted"),
        ("other/k", ""),
    ],
)
def test_words_that_are_no_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, hint: str) -> None:
    """A hint says what was meant, unless there is such a file."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ToktoolsError, match="no such file or directory") as raised:
        keys.open_signer(where, Asked(), print)
    assert raised.value.hint == hint
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).write_bytes(b"x" * 100)
    with pytest.raises(ToktoolsError, match="no private key") as raised:
        keys.open_signer(where, Asked(), print)
    assert raised.value.hint != hint or not hint


@pytest.mark.parametrize(("scheme", "package"), [("pkcs11", "python-pkcs11"), ("awskms", "boto3")])
def test_schemes(monkeypatch: pytest.MonkeyPatch, scheme: str, package: str) -> None:
    """The scheme of a URI, in any case, says who opens the key; where the package is missing, the extra is named."""
    asked = Asked()
    longer = signer.Signer(rsa_key("somebody", 2112).public_key())
    opened_with: list[str] = []

    def open_signer(uri: str, *_: object) -> signer.Signer:
        opened_with.append(uri)
        return longer

    room = SimpleNamespace(open_signer=open_signer)
    monkeypatch.setattr(keys, scheme, room, raising=False)
    monkeypatch.setitem(sys.modules, f"toktools.keys.{scheme}", room)
    uri = f"{scheme.upper()}:k?pin-source=secret"
    assert keys.open_signer(uri, asked, asked.warned.append) is longer
    said = f"{scheme.upper()}:k: the key is RSA-2112; CloudHSM documents only RSA-2048"
    assert (opened_with, asked.warned) == ([uri], [said])
    monkeypatch.delattr(keys, scheme)
    monkeypatch.setitem(sys.modules, f"toktools.keys.{scheme}", None)
    with pytest.raises(ToktoolsError, match=f"needs the package {package}$") as raised:
        keys.open_signer(uri, asked, print)
    assert raised.value.hint.startswith("the extra toktools[")
    with pytest.raises(ToktoolsError, match=rf"^{scheme}: no such file or directory$"):
        keys.open_signer(scheme, asked, print)


def numbers(p: int = 1009, q: int = 1013, e: int = 5, add: int = 0, **more: int) -> Any:
    """A key of small numbers that fit, but for those that are given."""
    order = (p - 1) * (q - 1)
    d = pow(e, -1, order) + add
    fitting = {"p": p, "q": q, "d": d, "dmp1": d % (p - 1), "dmq1": d % (q - 1), "iqmp": pow(q, -1, p)}
    public_numbers = SimpleNamespace(n=more.pop("n", p * q), e=e)
    private_numbers = SimpleNamespace(**{**fitting, **more}, public_numbers=public_numbers)
    return SimpleNamespace(private_numbers=lambda: private_numbers)


@pytest.mark.parametrize(
    "key",
    [
        numbers(),
        numbers(1013, 1009),
        numbers(e=1, add=1008 * 1012),
        numbers(n=1009 * 1013 + 2),
        numbers(add=1008 * 1012),
        numbers(22, 13, e=11),
        numbers(13, 22, e=11),
        numbers(1009, 7, e=5),
        numbers(7, 1009, e=5),
        numbers(1009, 11, e=17),
        *(numbers(**{name: value}) for name, value in (("dmp1", 1), ("dmq1", 1), ("iqmp", 1), ("d", 1), ("d", 3))),
        numbers(dmp1=numbers().private_numbers().dmp1 + 1008),
        numbers(dmq1=numbers().private_numbers().dmq1 + 1012),
        numbers(iqmp=numbers().private_numbers().iqmp + 1009),
        numbers(p=1009, q=1013, e=1008 * 1012 + 1),
    ],
)
def test_numbers_that_fit(key: Any) -> None:
    """Each number is held against the others: only those of one key pass."""
    given = key.private_numbers()
    n, e = given.public_numbers.n, given.public_numbers.e
    p, q = sorted((given.p, given.q))
    well = (p, q, n) == (1009, 1013, 1009 * 1013) or (p, q) == (11, 1009)
    well = well and 1 < e < n and 1 < given.d < n and e * given.d % (given.p - 1) == e * given.d % (given.q - 1) == 1
    well = well and (given.dmp1, given.dmq1) == (given.d % (given.p - 1), given.d % (given.q - 1))
    well = well and given.iqmp == pow(given.q, -1, given.p)
    assert file._numbers_fit(key) == well  # noqa: SLF001 - a library makes no such keys


def test_d_below_n() -> None:
    """The private exponent is below the modulus, not equal to it."""
    p, q = 1009, 1013
    n, order = p * q, (p - 1) * (q - 1)
    e = pow(n, -1, order)
    key = numbers(p, q, e)
    assert file._numbers_fit(key)  # noqa: SLF001 - the same
    d = n
    assert e * d % order == 1
    at_n = numbers(p, q, e, d=d, dmp1=d % (p - 1), dmq1=d % (q - 1))
    assert not file._numbers_fit(at_n)  # noqa: SLF001 - the same


def test_a_signature_that_does_not_verify() -> None:
    """It never leaves, for it could give the key away."""

    class Faulty(signer.Signer):
        def _sign(self, digest: bytes) -> bytes:
            return digest * 8

    with pytest.raises(ToktoolsError, match="the signature that it made does not verify"):
        Faulty(KEY.public_key()).sign(DIGEST)
    assert Faulty().sign(DIGEST) == DIGEST * 8
    assert (Faulty().pace(None), Faulty().pace(7)) == ((1, False), (7, False))
    assert signer.fault(KEY.public_key(), DIGEST, file.KeyInMemory(KEY).sign(DIGEST)) == ""
    assert signer.fault(KEY.public_key(), DIGEST, DIGEST * 8) == "not made by the given key"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (b"", []),
        (b"\x02", []),
        (b"\x02\x01\x05", [(2, b"\x05")]),
        (b"\x02\x00", [(2, b"")]),
        (b"\x02\x02\x05", []),
        (b"\x02\x81\x01\x05\x04\x01x", [(2, b"\x05"), (4, b"x")]),
        (b"\x04\x82\x00\x02xyz", [(4, b"xy")]),
        (b"\x02\x01\x05\x1f\x01x", [(2, b"\x05")]),
        (b"\x3f\x01x", []),
        (b"\x30\x80\x02\x01\x05\0\0\x04\x00", [(0x30, b"\x02\x01\x05"), (4, b"")]),
        (b"\x30\x80\x30\x80\0\0\0\0", [(0x30, b"\x30\x80\0\0")]),
        (b"\x30\x80\x02\x01\x05", []),
        (b"\x04\x80x\0\0", []),
        (b"\x04\x80\x02\x01\x05\0\0", []),
        (b"\x1e\x01x", [(0x1E, b"x")]),
    ],
)
def test_values_of_der(content: bytes, parts: list[tuple[int, bytes]]) -> None:
    """Where each begins and ends, in short, long and indefinite form; what is none ends the list."""
    assert [(tag, bytes(part)) for tag, part in der.values(content)] == parts


def test_nested_der() -> None:
    """Each value comes before those in it; an octet string in parts is one; the depth has a bound."""
    content = b"\x30\x05\x02\x01\x07\x05\0" + b"\x24\x80\x04\x02\x02\x01\x04\x01\x09\0\0"
    assert [(tag, bytes(part)) for tag, part in der.nested(content)] == [
        (0x30, b"\x02\x01\x07\x05\0"),
        (2, b"\x07"),
        (5, b""),
        (0x24, b"\x04\x02\x02\x01\x04\x01\x09"),
        (2, b"\x09"),
    ]
    inside = [(tag, bytes(part)) for tag, part in der.nested(b"\x02\x03\x04\x01x\x04\x03\x02\x01\x05")]
    assert inside == [(2, b"\x04\x01x"), (4, b"\x02\x01\x05"), (2, b"\x05")]  # an integer has nothing in it
    assert der.number(memoryview(b"\x01\x00")) == 256
    deep = b""
    for _ in range(40):
        deep = bytes([0x30, len(deep)]) + deep
    assert len(list(der.nested(deep))) == 25
    assert [len(list(der.nested(deep, depth))) for depth in (0, 1)] == [1, 2]
    for depth, count in ((24, 1), (25, 0)):
        assert len(list(der.values(b"\x30\x80" * depth + b"\0\0" * depth))) == count


def string(*parts: bytes) -> bytes:
    """Strings as SSH has them."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def openssh_line(*parts: bytes) -> bytes:
    return b"some-kind " + b64encode(string(*parts)) + b" officer1@host\n"


def openssh_file(blob: bytes, secret: bytes, rounds: int = 0) -> bytes:
    """A private key in OpenSSH's format: encrypted, if it has rounds."""
    ways = (
        (b"aes256-ctr", b"bcrypt", string(b"s" * 16) + rounds.to_bytes(4, "big")) if rounds else (b"none", b"none", b"")
    )
    content = b"openssh-key-v1\0" + string(*ways) + b"\0\0\0\1" + string(blob, secret)
    return b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + encodebytes(content) + b"-----END OPENSSH PRIVATE KEY-----\n"


N = KEY.public_key().public_numbers().n.to_bytes(257, "big")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((b"ssh-ed25519", b"x"), "the key is Ed25519, but CloudHSM takes only RSA keys"),
        ((b"ssh-ed448", b"x"), "the key is Ed448, but"),
        ((b"ssh-dss", b"x"), "the key is DSA, but"),
        ((b"ecdsa-sha2-nistp256", b"x"), "the key is ECDSA, but"),
        ((b"sk-ssh-ed25519@openssh.com", b"x"), "the key is Ed25519 on a security key, but"),
        ((b"sk-ecdsa-sha2-nistp256@openssh.com", b"x"), "the key is ECDSA on a security key, but"),
        ((b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com", b"x"), "the key is ECDSA on a security key, but"),
        ((b"ssh-rsa-cert-v01@openssh.com", b"x"), "an OpenSSH certificate, not a key"),
        ((b"\n" * 40,), "the key is " + "\\n" * 32 + ", but"),
        ((b"",), "the key is of no kind, but"),
        ((b"ssh-rsa", b"\1\0\1", N[:-8]), "the key is RSA-1984, but CloudHSM takes RSA-2048"),
        ((b"ssh-rsa", b"\1" + bytes(256), N), "a broken key: its numbers do not fit together"),
        ((b"ssh-rsa", b"\1\0\1"), "a broken key in OpenSSH's format"),
        ((b"ssh-rsa",), "a broken key in OpenSSH's format"),
        ((), "a broken key in OpenSSH's format"),
        ((b"ssh-rsa", b"\0", N), "a broken key in OpenSSH's format"),
    ],
)
def test_what_openssh_says_of_a_key(parts: tuple[bytes, ...], said: str) -> None:
    """Its blob, in a line or before the private part, names its kind; what does not hold together is refused."""
    line = openssh_line(*parts).replace(b"some-kind", b"ssh-rsa")
    for content in (line, openssh_file(string(*parts), b"")):
        assert refused(lambda content=content: public.parse(content, "k")).startswith(said)  # type: ignore[misc]


@pytest.mark.parametrize("comment", [b"", b" a", b"\tab", b" officer 1@host\n"])
def test_the_comment_of_a_line_of_openssh(comment: bytes) -> None:
    """Whatever it is, it is not of the key."""
    key = public.parse(PUBLIC["openssh"] + comment, "k")
    assert key.public_numbers() == KEY.public_key().public_numbers()


@pytest.mark.parametrize("cut", [b"ssh-rsa", b"ssh-rsa AAA", b"ssh-rsa AAAAB3NzaC1yc2E="])
def test_a_line_of_openssh_that_is_cut_short(cut: bytes) -> None:
    """It is a broken key, and so is a private one whose strings end too early."""
    content = encodebytes(b"openssh-key-v1\0" + string(b"none", b"none"))
    private_key = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + content + b"-----END OPENSSH PRIVATE KEY-----\n"
    for text in (cut, private_key):
        assert refused(lambda text=text: public.parse(text, "k")) == "a broken key in OpenSSH's format"  # type: ignore[misc]


@pytest.mark.parametrize(("size", "asks"), [(1 << 14, True), ((1 << 14) + 16, False)])
def test_the_private_part_of_openssh(tmp_path: Path, size: int, asks: bool) -> None:  # noqa: FBT001 - pytest gives it
    """What is larger than any RSA key is not even asked a pass phrase for, nor what takes too many rounds."""
    need("bcrypt")
    blob = string(b"ssh-rsa", b"\1\0\1", N)
    asked = Asked()
    said = refused(lambda: opened(tmp_path, openssh_file(blob, bytes(size), 1), asked))
    assert (said, asked.times) == (("wrong pass phrase", 1) if asks else ("a broken key in OpenSSH's format", 0))
    said = refused(lambda: opened(tmp_path, openssh_file(blob, bytes(size - 16), 1001), asked))
    assert "more than 1000 rounds of bcrypt" in said
    times = asked.times
    assert refused(lambda: opened(tmp_path, openssh_file(blob, b""), asked)) == "a broken key in OpenSSH's format"
    assert asked.times == times  # what is not encrypted needs none


def test_openssh_and_bcrypt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an encrypted key needs that package, and nobody is asked for a pass phrase in vain."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    asked = Asked()
    assert len(opened(tmp_path, PLAIN["openssh"], asked).sign(DIGEST)) == 256
    content = openssh_file(string(b"ssh-rsa", b"\1\0\1", N), bytes(1024), 1)
    assert "needs the package bcrypt" in refused(lambda: opened(tmp_path, content, asked))
    assert asked.times == 0

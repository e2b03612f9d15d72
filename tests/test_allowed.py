"""Which keys are allowed: those of other kinds are named for what they are, and nothing takes long to find out."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from asn1 import value
from conftest import OFFICER1_PUB, PASS_PHRASE, SIGNED, Done, Shell, need
from hypothesis import given, settings
from hypothesis import strategies as st

from toktools.errors import ToktoolsError
from toktools.keys import allowed, der, forms

DIGEST = b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
PSS = "the key is only for RSASSA-PSS, but CloudHSM takes RSASSA-PKCS1-v1_5"


@pytest.fixture(scope="module")
def folder(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys as OpenSSH writes them, and with keys that are not allowed."""
    need("openssl", "ssh-keygen")
    folder = tmp_path_factory.mktemp("allowed")
    script = f"""
        set -e
        umask 077
        cp {keys}/pkcs8.pem k.pem
        for name in plain locked; do cp k.pem $name.ssh; ssh-keygen -q -p -P '' -N '' -f $name.ssh; done
        ssh-keygen -q -p -P '' -N "$PHRASE" -f locked.ssh
        ssh-keygen -y -f plain.ssh > plain.pub
        ssh-keygen -e -m RFC4716 -f plain.pub > rfc4716.pub
        ssh-keygen -q -t ed25519 -N '' -f ed25519
        ssh-keygen -q -t ecdsa -N '' -f ecdsa
        ssh-keygen -q -t ed25519 -N "$PHRASE" -f ed25519-locked
        ssh-keygen -q -t rsa -b 1024 -N '' -f short || openssl genrsa 1024 > short
        ssh-keygen -q -s ed25519 -I id -n officer1 plain.pub
        openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out pss.pem
        openssl pkey -in pss.pem -pubout -out pss.pub
        openssl pkey -in pss.pem -outform DER -out pss.der
        openssl pkcs8 -topk8 -in pss.pem -v2 aes256 -passout env:PHRASE -out pss-locked.pem
        openssl req -x509 -new -key pss.pem -subj /CN=officer1 -out pss-cert.pem
        openssl pkcs12 -export -inkey pss.pem -in pss-cert.pem -passout env:PHRASE -out pss.p12
        openssl genrsa -primes 3 -out three.pem 3072
        openssl rsa -in three.pem -traditional -out three-pkcs1.pem
        openssl pkcs8 -topk8 -in three.pem -v2 aes256 -passout env:PHRASE -out three-locked.pem
    """
    subprocess.run(
        ["sh", "-c", script], cwd=folder, check=True, capture_output=True, env={**os.environ, "PHRASE": PASS_PHRASE}
    )
    # openssl's own file but for the number of rounds, so many of which would take it seconds.
    rounds = with_rounds((keys / "pbes2.der").read_bytes(), 10_000_001)
    pem = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n%s-----END ENCRYPTED PRIVATE KEY-----\n"
    (folder / "rounds.pem").write_bytes(pem % base64.encodebytes(rounds))
    return folder


def with_rounds(content: bytes | memoryview, rounds: int) -> bytes:
    """Encode DER anew with another number in the place of each: an encrypted key has the one of the rounds alone."""
    number = rounds.to_bytes(4, "big")
    return b"".join(
        value(
            tag, with_rounds(inner, rounds) if tag == der.SEQUENCE else number if tag == der.INTEGER else bytes(inner)
        )
        for tag, inner in der.values(content)
    )


def sign(shell: Shell, path: Path, phrase: str = PASS_PHRASE) -> Done:
    """Sign a digest with a key, and a pass phrase if it needs one."""
    return shell.run("tok-sign", "-k", path, "--passin", "env:P", stdin=DIGEST, env={**shell.env, "P": phrase})


@pytest.mark.parametrize("name", ["plain.ssh", "locked.ssh"])
def test_openssh_signs_the_same(shell: Shell, folder: Path, name: str) -> None:
    """A key in OpenSSH's format signs what the same key signs in PEM, and verifies, locked or not."""
    done = sign(shell, folder / name).check(0)
    assert done.out == sign(shell, folder / "k.pem").check(0).out
    signatures = shell.run("tok-sign", "-k", folder / "k.pem", stdin=shell.run("tok-extract", "f.json").out).out
    signed = shell.run("tok-merge", "f.json", stdin=signatures).check(0).out
    for public in (name, "plain.pub"):
        shell.run("tok-verify", "-p", folder / public, stdin=signed).check(0)


def test_openssh_wrong_phrase(shell: Shell, folder: Path) -> None:
    """A wrong pass phrase is told as such."""
    assert sign(shell, folder / "locked.ssh", "wrong").check(2, "locked.ssh: wrong pass phrase").out == b""


def test_openssh_without_bcrypt(shell: Shell, folder: Path) -> None:
    """Where the package is missing, an encrypted key names the extra, and another key does not need it."""
    shell.write("bcrypt.py", b"raise ImportError")
    env = {**shell.env, "PYTHONPATH": str(shell.cwd), "P": PASS_PHRASE}
    words = ("--passin", "env:P")
    done = shell.run("tok-sign", "-k", folder / "locked.ssh", *words, stdin=DIGEST, env=env)
    done.check(2, "needs the package bcrypt", "hint: the extra toktools[ssh] installs it")
    shell.run("tok-sign", "-k", folder / "plain.ssh", stdin=DIGEST, env=env).check(0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ed25519", "the key is Ed25519"),
        ("ed25519-locked", "the key is Ed25519"),
        ("ecdsa", "the key is ECDSA"),
        ("ed25519.pub", "a public key, but the private key is needed"),
        ("plain.pub", "a public key, but the private key is needed"),
        ("rfc4716.pub", "hint: ssh-keygen -i -f FILE"),
        ("short", "the key is RSA-1024"),
        ("pss.pem", PSS),
        ("pss.der", PSS),
        ("pss-locked.pem", PSS),
        ("pss.p12", PSS),
        ("three.pem", "the key has 3 primes"),
        ("three-pkcs1.pem", "the key has 3 primes"),
        ("three-locked.pem", "the key has 3 primes"),
        ("rounds.pem", "more than 10000000 rounds"),
    ],
)
def test_what_does_not_sign(shell: Shell, folder: Path, name: str, said: str) -> None:
    """A key that does not sign for CloudHSM is named for what it is."""
    assert sign(shell, folder / name).check(2, said).out == b""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ed25519", "the key is Ed25519"),
        ("ed25519.pub", "the key is Ed25519"),
        ("ecdsa.pub", "the key is ECDSA"),
        ("plain-cert.pub", "an OpenSSH certificate, not a key"),
        ("rfc4716.pub", "hint: ssh-keygen -i -f FILE"),
        ("pss.pub", PSS),
        ("pss.pem", PSS),
        ("pss-cert.pem", PSS),
        ("three.pem", "the key has 3 primes"),
        ("pss-locked.pem", "an encrypted private key, but only the public key is needed"),
        ("rounds.pem", "one try of the pass phrase would take more than 10000000 rounds of a hash; not tried"),
        ("pss.p12", "a PKCS#12 file, but only the public key is needed"),
    ],
)
def test_what_does_not_verify(shell: Shell, folder: Path, name: str, said: str) -> None:
    """The same for the key that verifies, which takes no secret, and no work for one."""
    assert shell.run("tok-verify", "-p", folder / name, SIGNED).check(2, said).out == b""


def test_size_comes_before_the_numbers(shell: Shell) -> None:
    """A modulus of almost a megabyte is refused for its size, in DER, in OpenSSH's format and in authdata."""
    size = 900_000
    numbers = value(der.SEQUENCE, value(der.INTEGER, b"\0" + b"\xff" * size) + value(der.INTEGER, b"\1\0\1"))
    rsa = value(der.SEQUENCE, value(der.OBJECT_IDENTIFIER, forms.RSA) + b"\5\0")
    shell.write("pkcs1.der", numbers)
    shell.write("spki.der", value(der.SEQUENCE, rsa + value(der.BIT_STRING, b"\0" + numbers)))
    for name in ("pkcs1.der", "spki.der"):
        shell.run("tok-verify", "-p", name, SIGNED).check(2, f"{name}: the key is RSA-{8 * size}, but the size")


def rsa_key(*numbers: bytes, more: bytes = b"") -> bytes:
    """A private key (RFC 8017 appendix A.1.2): version, n, e, d, p, q, and three more, unless some are given."""
    modulus = b"\0" + b"\xff" * 256
    rest = (b"\0", modulus, b"\1\0\1", *[b"\7"] * 6)[len(numbers) :]
    return value(der.SEQUENCE, b"".join(value(der.INTEGER, number) for number in (*numbers, *rest)) + more)


def test_more_primes_than_two() -> None:
    """They are counted; what is no key of the library's, or of RSA, is left to it."""
    allowed.refuse_unfit("key", rsa_key())
    primes = value(der.SEQUENCE, value(der.SEQUENCE, b"") * 2)
    with pytest.raises(ToktoolsError, match=r"^key: the key has 4 primes, but CloudHSM takes keys of two$"):
        allowed.refuse_unfit("key", rsa_key(more=primes))
    with pytest.raises(ToktoolsError, match=r"^key: the key is RSA-8, but CloudHSM takes RSA-2048$"):
        allowed.refuse_unfit("key", rsa_key(b"\0", b"\0\xff"))
    for negative in (b"\x80", b"\xff" * 257):
        allowed.refuse_unfit("key", rsa_key(b"\0", negative, more=primes))
    with pytest.raises(ToktoolsError, match=r"^key: a broken key"):
        allowed.refuse_unfit("key", rsa_key(b"\0", b"\0" + b"\xff" * 256, b"\1" + bytes(256)))
    allowed.refuse_unfit("key", rsa_key(b"\0", b"\0" + b"\xff" * 256, b"\0" + b"\xff" * 256))


def test_odd_numbers_are_cheap() -> None:
    """An exponent longer than the modulus is a broken key, whatever it would cost to use it."""
    numbers = value(der.INTEGER, b"\0" + b"\xff" * 256) + value(der.INTEGER, b"\x7f" * 100_000)
    with pytest.raises(ToktoolsError, match="numbers do not fit"):
        allowed.refuse_unfit("key", value(der.SEQUENCE, numbers))


def derivation(oid: str, *numbers: int) -> bytes:
    """An algorithm that makes a key of a pass phrase, with a salt and numbers, deep in something else."""
    listed = b"".join(value(der.INTEGER, number.to_bytes(8, "big")) for number in numbers)
    parameters = value(der.SEQUENCE, value(der.OCTET_STRING, b"saltsalt") + listed)
    algorithm = value(der.SEQUENCE, value(der.OBJECT_IDENTIFIER, bytes.fromhex(oid)) + parameters)
    return value(der.SEQUENCE, value(der.OCTET_STRING, value(der.SEQUENCE, algorithm)))


HASHED = [*(f"2a864886f70d0105{number:02x}" for number in (1, 3, 4, 6, 10, 11, 12))]
HASHED += [f"2a864886f70d010c01{number:02x}" for number in range(1, 7)]
SCRYPT = "2b06010401da47040b"


@pytest.mark.parametrize("oid", HASHED)
def test_too_many_rounds(oid: str) -> None:
    """Ten million rounds of a hash are the most, in every scheme that counts them."""
    allowed.refuse_rounds("key", derivation(oid, allowed.MAX_ROUNDS))
    with pytest.raises(ToktoolsError, match="key: one try of the pass phrase would take more than 10000000 rounds"):
        allowed.refuse_rounds("key", derivation(oid, allowed.MAX_ROUNDS + 1))


@pytest.mark.parametrize("numbers", [(1 << 20, 16, 1), (1 << 14, 8, 1 << 20), (1 << 62, 1, 1)])
def test_too_much_scrypt(numbers: tuple[int, int, int]) -> None:
    """Memory and work are bounded; what openssl takes by default is not."""
    allowed.refuse_rounds("key", derivation(SCRYPT, 1 << 14, 8, 1))
    with pytest.raises(ToktoolsError, match="key: one try of the pass phrase would take too much memory"):
        allowed.refuse_rounds("key", derivation(SCRYPT, *numbers))


@pytest.mark.parametrize(
    ("refuse", "most"),
    [
        (lambda number: allowed.refuse_scrypt("key", [number, 8, 1]), (1 << 20) - 1),
        (lambda number: allowed.refuse_scrypt("key", [1, number, 1]), 1 << 22),
        (lambda number: allowed.refuse_scrypt("key", [1 << 10, 1, number]), 1 << 15),
        (lambda number: allowed.refuse_bcrypt("key", number), 1000),
        (lambda number: allowed.refuse_hashes("key", [number, 1 << 62]), 10_000_000),
    ],
)
def test_how_much_is_too_much(refuse: Callable[[int], None], most: int) -> None:
    """Memory up to 1 GiB, work of some seconds, and rounds have a bound each, which itself is allowed."""
    refuse(most)
    with pytest.raises(ToktoolsError, match="one try of the pass phrase would take"):
        refuse(most + 1)


def test_numbers_that_are_not_there() -> None:
    """They are left to the library."""
    allowed.refuse_scrypt("key", [1 << 62, 1 << 62])
    allowed.refuse_hashes("key", [])


def test_too_many_rounds_of_a_check() -> None:
    """The check of a PKCS#12 file counts too."""
    mac = value(
        der.SEQUENCE, value(der.SEQUENCE, b"") + value(der.OCTET_STRING, b"salt") + value(der.INTEGER, b"\1" * 4)
    )
    pfx = value(der.SEQUENCE, value(der.INTEGER, b"\3") + value(der.SEQUENCE, b"") + mac)
    with pytest.raises(ToktoolsError, match="key: one try of the pass phrase would take more than 10000000 rounds"):
        allowed.refuse_rounds("key", pfx)


PARTS = st.recursive(
    st.tuples(st.integers(0, 255), st.binary(max_size=20)).map(lambda part: value(*part)) | st.binary(max_size=8),
    lambda parts: st.tuples(st.sampled_from([0x30, 0x24, 0x04, 0xA0, 0x31]), st.lists(parts, max_size=4)).map(
        lambda part: value(part[0], b"".join(part[1]))
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(PARTS)
def test_any_der(content: bytes) -> None:
    """Whatever stands in a file, it is taken apart or refused, and nothing else is raised."""
    for refuse in (allowed.refuse_unfit, allowed.refuse_rounds):
        with suppress(ToktoolsError):
            refuse("key", content)
    for _, inner in der.nested(content):
        assert len(inner) <= len(content)


@pytest.mark.parametrize("inside", [b"\x30\x80" * 200_000, b"\x24\x80" * 200_000, b"\x30\x84" * 100_000])
def test_deep_der_is_cheap(inside: bytes) -> None:
    """Neither the stack nor hours are used up by values in values."""
    allowed.refuse_rounds("key", inside)
    allowed.refuse_unfit("key", inside)


def test_the_published_key_is_allowed(shell: Shell) -> None:
    """AWS's own sample goes through all of that."""
    shell.run("tok-verify", "-p", OFFICER1_PUB, SIGNED).check(0)

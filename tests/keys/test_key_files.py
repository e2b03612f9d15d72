"""Key files: every format signs and verifies alike, and everything else is one clear line."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
from conftest import PASS_PHRASE, UNSIGNED, Done, Shell, need
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toktools import keys as toktools_keys
from toktools.errors import ToktoolsError
from toktools.keys.files import MAX_BYTES
from toktools.system import prompt

DIGEST = base64.b64decode(json.loads(UNSIGNED.read_bytes())["tokens"][0]["unsigned"])
LINE = base64.b64encode(DIGEST) + b"\n"

NONE = "-keypbe NONE -certpbe NONE"
SCRIPT = rf"""
    set -e
    umask 077
    p12() {{ openssl pkcs12 -export -inkey pkcs8.pem -in cert.pem "$@"; }}
    p12 -passout env:P -out default.p12
    p12 -passout env:P -legacy -out legacy.p12 || cp default.p12 legacy.p12
    p12 -passout env:P {NONE} -out mac-alone.p12
    p12 -passout pass: -out empty.p12
    p12 -passout pass: {NONE} -nomac -out open.p12
    openssl pkcs12 -export -nokeys -in cert.pem -passout env:P -out no-key.p12
    openssl pkcs12 -export -nocerts -inkey ec.pem -passout env:P -out ec.p12
    openssl pkcs8 -topk8 -in pkcs8.pem -scrypt -passout env:P -out scrypt.pem
    openssl pkcs8 -topk8 -in pkcs8.pem -v1 PBE-SHA1-3DES -passout env:P -out pbes1.pem
    {{ echo 'from a mail:'; cat other.pub cert.pem pkcs8.pem; echo bye; }} > chain.pem
    sed 's/$/\r/' pkcs8.pem > crlf.pem
    {{ printf '\357\273\277'; cat pkcs1.pem; }} > mark.pem
    cat ec.pem pkcs8.pem > ec-first.pem
    cat pkcs8.pem other.pem > two.pem
    for name in plain locked; do cp pkcs8.pem $name.ssh; ssh-keygen -q -p -P '' -N '' -f $name.ssh; done
    ssh-keygen -q -p -P '' -N "$P" -f locked.ssh
    for cipher in aes128-cbc aes256-gcm@openssh.com; do
        cp plain.ssh $cipher.ssh
        ssh-keygen -q -p -P '' -N "$P" -Z $cipher -f $cipher.ssh
    done
    openssl rsa -in pkcs8.pem -traditional -aes192 -passout env:P -out aes192.pem
    openssl pkcs8 -topk8 -in pkcs8.pem -v2 camellia-128-cbc -passout env:P -out camellia.pem ||
        cp aes192.pem camellia.pem
    ssh-keygen -y -f plain.ssh > ssh.pub
    ssh-keygen -q -t ed25519 -N '' -f ed25519.ssh
    ssh-keygen -e -m RFC4716 -f ssh.pub > rfc4716.pub
    openssl dsaparam -genkey -noout -out dsa.pem 1024
    openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out pss.pem
    openssl pkey -in pss.pem -pubout -out pss.pub
    openssl pkey -in pss.pem -outform DER -out pss.der
    openssl req -x509 -new -key pss.pem -subj /CN=officer1 -out pss-cert.pem
    openssl req -new -key pkcs8.pem -subj /CN=officer1 -out csr.pem
    openssl req -in csr.pem -outform DER -out csr.der
    openssl x509 -req -in csr.pem -CA pss-cert.pem -CAkey pss.pem -CAcreateserial -out signed-by-pss.pem
    openssl x509 -in signed-by-pss.pem -outform DER -out signed-by-pss.der
    openssl genrsa -out rsa2560.pem 2560
    openssl x509 -in cert.pem -trustout -addtrust emailProtection -out trusted.pem
    base64=$(openssl base64 -A -in spki.der)
    printf '{{"KeyId": "arn:aws:kms:...", "PublicKey": "%s", "KeySpec": "RSA_2048"}}' "$base64" > kms.json
    printf 'KeyId: arn:aws:kms:...\nPublicKey: %s\n' "$base64" > kms.yaml
    {{ echo '# ssh-rsa of officer1'; printf 'command="echo a b",no-pty '; cat ssh.pub; }} > authorized_keys
"""

PLAIN = ["pkcs8.pem", "pkcs1.pem", "pkcs8.der", "pkcs1.der"]
PLAIN += ["crlf.pem", "mark.pem", "two.pem", "plain.ssh", "chain.pem"]
ENCRYPTED = ["old-encrypted.pem", "pbes1.pem", "pbes2.pem", "pbes2.der", "scrypt.pem", "locked.ssh"]
ENCRYPTED += ["aes256-gcm@openssh.com.ssh"]
UNUSUAL = ["aes192.pem", "camellia.pem", "aes128-cbc.ssh"]
PKCS12 = ["default.p12", "legacy.p12", "mac-alone.p12", "ber.p12"]
NOT_ENCRYPTED_PKCS12 = ["empty.p12", "open.p12"]
PUBLIC = [
    "spki.pem",
    "spki.der",
    "pkcs1.pub",
    "cert.pem",
    "cert.der",
    "ssh.pub",
    "signed-by-pss.pem",
    "signed-by-pss.der",
    "trusted.pem",
    "kms.json",
    "kms.yaml",
    "authorized_keys",
]

PSS = "the key is only for RSASSA-PSS, but CloudHSM takes RSASSA-PKCS1-v1_5"
NO_KEYS = {
    "ec.pem": "the key is EC, but CloudHSM takes only RSA keys",
    "ed25519.pem": "the key is Ed25519, but",
    "ed25519.ssh": "the key is Ed25519, but",
    "dsa.pem": "the key is DSA, but",
    "rsa1024.pem": "the key is RSA-1024, but CloudHSM takes RSA-2048",
    "rsa2560.pem": "the key is RSA-2560, but CloudHSM takes RSA-2048",
    "pss.pem": PSS,
    "pss.der": PSS,
    "directory": "is a directory",
    "missing": "no such file or directory",
    "empty": "an empty file, not a key",
    "huge": f"larger than {MAX_BYTES} bytes",
}
NO_PRIVATE_KEYS = {
    **dict.fromkeys([*PUBLIC, "ed25519.ssh.pub"], "a public key or a certificate, not a private key"),
    **dict.fromkeys(["garbage", "iv.pem", "odd.p12"], "no private key can be read"),
    **dict.fromkeys(["csr.pem", "csr.der"], "a certificate request, not a private key"),
    "f.json": "a token file, not a private key",
    "rfc4716.pub": "a public key of RFC 4716, not a private key",
    "cut.der": "DER that is cut short, not a private key",
    "cut.pem": "PEM without its BEGIN or END line, not a private key",
    "cut.p12": "a PKCS#12 file that is cut short",
    "no-key.p12": "contains no private key",
    "ec.p12": "the key is EC, but",
    "ec-first.pem": "the first key in the file is EC, but",
    "pss.pub": PSS,
    **NO_KEYS,
}
NO_PUBLIC_KEYS = {
    **dict.fromkeys(["garbage", "iv.pem"], "no public key can be read"),
    **dict.fromkeys(["csr.pem", "csr.der"], "a certificate request, not a public key"),
    "f.json": "a token file, not a public key",
    "rfc4716.pub": "a public key of RFC 4716, which cannot be read",
    "cut.der": "DER that is cut short, not a public key",
    **dict.fromkeys(ENCRYPTED, "an encrypted private key, but only the public key is needed"),
    **dict.fromkeys([*PKCS12, "open.p12", "odd.p12"], "a PKCS#12 file, but only the public key is needed"),
    "ed25519.ssh.pub": "the key is Ed25519, but",
    "pss.pub": PSS,
    "pss-cert.pem": PSS,
    **NO_KEYS,
}


@pytest.fixture(scope="session")
def directory(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a key in every format, and with files that are no RSA key."""
    need("openssl", "ssh-keygen")
    directory = shutil.copytree(keys, tmp_path_factory.mktemp("files") / "keys")
    env = {**os.environ, "P": PASS_PHRASE}
    subprocess.run(["sh", "-c", SCRIPT], cwd=directory, check=True, capture_output=True, env=env)
    names = ("default.p12", "open.p12", "pkcs8.pem", "old-encrypted.pem", "cert.pem")
    read = {name: (directory / name).read_bytes() for name in names}
    version = bytes.fromhex("a003020102")
    assert version in read["open.p12"]
    info, _, body = read["old-encrypted.pem"].partition(b"DEK-Info: AES-256-CBC,")
    contents = {
        # The length, in two bytes, becomes an indefinite one, as other systems write it.
        "ber.p12": b"\x30\x80" + read["default.p12"][4:] + b"\0\0",
        # At both the library raises something else than it should: x509.InvalidVersion, and a PanicException of Rust.
        "odd.p12": read["open.p12"].replace(version, version[:-1] + b"\5"),
        "iv.pem": info + b"DEK-Info: AES-256-CBC," + body[2:],
        "cert-first.pem": read["cert.pem"] + read["pkcs8.pem"],
        "empty": b"",
        "garbage": os.urandom(1000),
        "cut.p12": read["default.p12"][:-1],
        "cut.pem": read["pkcs8.pem"][:800],
        "cut.der": (directory / "pkcs1.der").read_bytes()[:-5],
        "f.json": UNSIGNED.read_bytes(),
        "huge": read["pkcs8.pem"] + b"\n" * MAX_BYTES,
    }
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    (directory / "directory").mkdir()
    for path in directory.iterdir():
        path.chmod(0o700 if path.is_dir() else 0o600)
    return directory


def openssl_signature(keys: Path, name: str) -> bytes:
    """Return the line that tok-sign must write: what openssl makes of the digest."""
    command: list[str | Path] = ["openssl", "pkeyutl", "-sign", "-inkey", keys / name, "-pkeyopt", "digest:sha256"]
    signed = subprocess.run(command, check=True, capture_output=True, input=DIGEST).stdout
    return base64.b64encode(signed) + b"\n"


@pytest.fixture(scope="session")
def signature(keys: Path) -> bytes:
    """The line that the key makes of the digest, whatever its format."""
    return openssl_signature(keys, "pkcs8.pem")


class Source(prompt.Source):
    """A source of a pass phrase that counts how often it was asked."""

    def __init__(self, phrase: str = PASS_PHRASE) -> None:
        super().__init__("--passin", "test")
        self.phrase = phrase.encode()
        self.times = 0

    def read(self, name: str, what: str, *, allow_empty: bool = False) -> bytes:
        assert (os.path.exists(name), what) == (True, "pass phrase")
        assert self.phrase or allow_empty
        self.times += 1
        return self.phrase


def sign(path: Path, source: Source, warnings: list[str]) -> bytes:
    signer = toktools_keys.open_signer(str(path), source, warnings.append)
    return base64.b64encode(signer.sign(DIGEST)) + b"\n"


@contextmanager
def refused(path: Path, said: str) -> Iterator[None]:
    with pytest.raises(ToktoolsError) as raised:
        yield
    assert raised.value.message.startswith(f"{path}: {said}")
    assert raised.value.status == 2


@pytest.mark.parametrize("name", [*PLAIN, *ENCRYPTED, *PKCS12, *NOT_ENCRYPTED_PKCS12])
def test_every_format_signs_as_openssl(directory: Path, signature: bytes, name: str) -> None:
    """The bytes are openssl's, without a warning; the pass phrase is asked for once, and only if there may be one."""
    source, warnings = Source("" if name in NOT_ENCRYPTED_PKCS12 else PASS_PHRASE), list[str]()
    assert sign(directory / name, source, warnings) == signature
    assert (source.times, warnings) == (0 if name in PLAIN else 1, [])


@pytest.mark.parametrize("name", [*PLAIN[:-1], *PUBLIC, "cert-first.pem"])
def test_every_format_verifies(shell: Shell, directory: Path, name: str) -> None:
    """-p takes a public key, a certificate or a private key; of several, a public key or certificate comes first."""
    shell.write("signatures", shell.run("tok-sign", "-k", directory / "pkcs8.pem", stdin=LINE).check(0).out)
    shell.run("tok-merge", "-p", directory / name, "-n", "1", "f.json", "signatures").check(0)


@pytest.mark.parametrize("name", NO_PRIVATE_KEYS)
def test_no_private_key(directory: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Anything but an RSA private key is named for what it is; nothing of the library's own is written."""
    with refused(directory / name, NO_PRIVATE_KEYS[name]):
        sign(directory / name, Source(), [])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NO_PUBLIC_KEYS)
def test_no_public_key(directory: Path, name: str) -> None:
    """Anything but an RSA public key is named too; nobody is asked for a pass phrase, and PKCS#12 is not opened."""
    with refused(directory / name, NO_PUBLIC_KEYS[name]):
        toktools_keys.read_public_key(str(directory / name), print)


@pytest.mark.parametrize("name", ["cert.pem", "garbage", "ec.pem", "missing"])
def test_a_refusal_by_commands(shell: Shell, directory: Path, name: str) -> None:
    """It is one line and exit status 2: trouble, and no answer; no file changes."""
    before = shell.read("f.json")
    for command in (["tok-sign", "-k"], ["tok-verify", "f.json", "-p"], ["tok-merge", "-i", "-n1", "f.json", "-p"]):
        if name == "cert.pem" and command[0] != "tok-sign":
            continue
        done = shell.run(*command, directory / name, stdin=LINE).check(2, f"{command[0]}: {directory / name}: ")
        assert (done.out, done.err.count("\n")) == (b"", 1)
    assert shell.read("f.json") == before


@pytest.mark.parametrize("name", [*ENCRYPTED, *PKCS12, "no-key.p12"])
def test_a_wrong_pass_phrase(directory: Path, name: str) -> None:
    """It is named as such, after one try."""
    source = Source("wrong")
    with refused(directory / name, "wrong pass phrase"):
        sign(directory / name, source, [])
    assert source.times == 1


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_encryption(directory: Path, signature: bytes, name: str) -> None:
    """A cipher that only some versions of the library have is no wrong pass phrase."""
    try:
        assert sign(directory / name, Source(), []) == signature
    except ToktoolsError as error:
        reason = "no private key can be read: its encryption is not supported"
        assert (error.message, bool(error.hint)) == (f"{directory / name}: {reason}", True)  # noqa: PT017 - either is right


@pytest.mark.parametrize(("rounds", "salt"), [(1 << 31, 16), (1 << 40, 8), (1 << 63, 16), (1 << 40, 12)])
def test_more_rounds_than_the_library_counts(
    directory: Path, tmp_path: Path, rounds: int, salt: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """They are no internal error; with a salt of a usual size, nothing of the library's own is written."""
    need("pkcs11")  # with which asn1crypto comes
    info = import_module("asn1crypto.keys").EncryptedPrivateKeyInfo.load((directory / "pbes2.der").read_bytes())
    parameters = info["encryption_algorithm"]["parameters"]["key_derivation_func"]["parameters"]
    parameters["iteration_count"] = rounds
    parameters["salt"] = import_module("asn1crypto.algos").Pbkdf2Salt(name="specified", value=bytes(salt))
    (tmp_path / "k").write_bytes(info.dump(force=True))
    with pytest.raises(ToktoolsError):
        sign(tmp_path / "k", Source(), [])
    assert salt == 12 or capfd.readouterr() == ("", "")


def test_nothing_is_derived_before_the_pass_phrase(shell: Shell) -> None:
    """PKCS#12 is not opened before the pass phrase is there, so no number of rounds makes anybody wait for that."""
    shell.write("rounds.p12", bytes.fromhex("3080020103308006092a864886f70d010701") + b"\x02\x04\x7f\xff\xff\xff" * 99)
    done = shell.run("tok-sign", "-k", "rounds.p12", stdin=LINE, start_new_session=True)
    done.check(2, "rounds.p12: there is no terminal to ask for the pass phrase")


@pytest.mark.parametrize("name", ["default.p12", "pbes2.pem", "old-encrypted.pem", "locked.ssh"])
def test_what_fips_refuses(shell: Shell, directory: Path, name: str) -> None:
    """A key that settings of OpenSSL refuse is no wrong pass phrase: the message names OPENSSL_CONF."""
    shell.write("fips.cnf", b"openssl_conf = o\n[o]\nalg_section = a\n[a]\ndefault_properties = fips=yes\n")
    shell.write("phrase", PASS_PHRASE.encode())
    command: list[str | Path] = [shell.bin / "tok-sign", "-k", directory / name, "--passin", "file:phrase"]
    env = {**shell.env, "OPENSSL_CONF": str(shell.cwd / "fips.cnf")}
    done = subprocess.run(command, input=LINE, capture_output=True, cwd=shell.cwd, env=env, check=False)
    Done(done.returncode, done.stdout, done.stderr.decode()).check(2, "no private key can be read", "OPENSSL_CONF")
    assert b"wrong" not in done.stderr


def test_openssh_without_bcrypt(directory: Path, signature: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only an encrypted key needs the package, and nobody is asked in vain."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    source = Source()
    assert sign(directory / "plain.ssh", source, []) == signature
    with refused(directory / "locked.ssh", "an encrypted key in OpenSSH's format needs the package bcrypt"):
        sign(directory / "locked.ssh", source, [])
    with refused(directory / "locked.ssh", "an encrypted private key, but only the public key is needed"):
        toktools_keys.read_public_key(str(directory / "locked.ssh"), print)
    assert source.times == 0


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o602, 0o666])
def test_warnings(directory: Path, tmp_path: Path, mode: int) -> None:
    """A private key that others can read or write, and a size that AWS does not document, get a warning each."""
    path = tmp_path / "k"
    shutil.copy(directory / "rsa3072.pem", path)
    path.chmod(mode)
    warnings: list[str] = []
    assert sign(path, Source(), warnings) == openssl_signature(directory, "rsa3072.pem")
    verbs = {0o640: "read", 0o602: "write", 0o666: "read and write"}.get(mode)
    exposed = f"{path}: other users can {verbs} this private key (mode {mode:04o}; chmod 600 fixes it)"
    size = f"{path}: the key is RSA-3072; CloudHSM documents only RSA-2048"
    assert warnings == [*([exposed] if verbs else []), size]
    public: list[str] = []
    toktools_keys.read_public_key(str(path), public.append)
    assert public == [size]


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("command", ["tok-sign -k", "tok-verify f.json -p"])
def test_a_key_from_standard_input(shell: Shell, keys: Path, command: str, name: str) -> None:
    """Standard input carries digests or a token file, so no key is read from it, by whatever name."""
    done = shell.run(*command.split(), name, stdin=(keys / "pkcs8.pem").read_bytes())
    assert done == Done(2, b"", f"{command.split(maxsplit=1)[0]}: {name}: a key cannot come from standard input\n")


def test_a_key_from_a_pipe(shell: Shell, keys: Path, signature: bytes) -> None:
    """A key may come from another descriptor, as from a shell's <(...)."""
    script = "{ cat pkcs8.pem | { tok-sign -k /dev/fd/3 <&4; } 3<&0; } 4<&0"
    assert shell.sh(script, cwd=keys, stdin=LINE).check(0).out == signature


@pytest.mark.parametrize("change", [{"n": 2}, {"e": 2}, {"q": 2}, {"qinv": "p"}, {"d": 0, "p": 0}, {"n": 1}])
def test_a_broken_key(keys: Path, signature: bytes, tmp_path: Path, change: dict[str, int | str]) -> None:
    """A key whose numbers do not fit together signs right or not at all: each signature is verified."""
    text = (keys / "pkcs1.der").read_bytes()
    lines = subprocess.run(
        ["openssl", "asn1parse", "-inform", "DER"], input=text, capture_output=True, check=True
    ).stdout.split(b"\n")
    numbers = [int(line.rpartition(b":")[2], 16) for line in lines if b"INTEGER" in line]
    named = dict(zip(["version", "n", "e", "d", "p", "q", "dp", "dq", "qinv"], numbers))
    for name, add in change.items():
        named[name] = 0 if add == 0 else named[name] + (named[add] if isinstance(add, str) else add)
    fields = "".join(f"{name}=INTEGER:0x{number:x}\n" for name, number in named.items())
    (tmp_path / "c").write_text(f"asn1=SEQUENCE:k\n[k]\n{fields}")
    command: list[str | Path] = ["openssl", "asn1parse", "-genconf", tmp_path / "c", "-noout", "-out", tmp_path / "k"]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "k").chmod(0o600)
    try:
        assert sign(tmp_path / "k", Source(), []) == signature
    except ToktoolsError as error:
        assert "key" in error.message  # noqa: PT017 - either is right


@pytest.mark.parametrize("name", ["default.p12", "open.p12", "pkcs8.der", "old-encrypted.pem", "plain.ssh"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage(directory: Path, signature: bytes, name: str, data: st.DataObject) -> None:
    """A file that is altered or cut off anywhere signs right or not at all, with one clear error."""
    content = bytearray((directory / name).read_bytes())
    # Most of a file is ciphertext or base64; its first bytes are structure.
    places = st.one_of(st.integers(0, len(content) - 1), st.integers(0, 60))
    for place, byte in data.draw(st.dictionaries(places, st.integers(0, 255), max_size=4)).items():
        content[place] = byte
    path = directory / f"damaged-{name}"
    path.write_bytes(content[: data.draw(places) or None])
    path.chmod(0o600)
    for source in (Source(), Source("")):
        try:
            signed = sign(path, source, [])
        except ToktoolsError as error:
            assert error.message.startswith((f"{path}: ", "the key is broken", "the key cannot sign"))  # noqa: PT017
        except AssertionError:
            assert not source.phrase  # the empty one, for a key that is not PKCS#12 any more
        else:
            assert signed == signature

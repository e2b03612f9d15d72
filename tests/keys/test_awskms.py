"""A key in AWS KMS: against a stand-in on this machine, which is taught what it does not know."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import UNSIGNED, Done, Shell, need
from servers import shared_kms

need("boto3")
boto3: Any = import_module("boto3")

DIGESTS = "".join(f"{b64encode(bytes([128 + number]) * 32).decode()}\n" for number in range(28)).encode()
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAX", "AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_EC2_METADATA_DISABLED": "true"}
"""Of nobody; no machine is asked for others."""


@pytest.fixture(scope="module")
def endpoint(shared: Path) -> Iterator[str]:
    """The URL of a moto server on this machine."""
    with shared_kms(shared) as url:
        yield url


@pytest.fixture(scope="module")
def kms(endpoint: str) -> Any:
    """A client of it."""
    return boto3.client(
        "kms", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )


def made(kms: Any, spec: str = "RSA_2048", usage: str = "SIGN_VERIFY") -> str:
    """Make a key, and return its ARN."""
    arn: str = kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]
    return arn


def sign(
    shell: Shell, uri: str, *words: str, stdin: bytes = DIGESTS, environment: dict[str, str | None] | None = None
) -> Done:
    """Run tok-sign without an AWS configuration, with these variables in its environment."""
    usual = {name: text for name, text in shell.env.items() if not name.startswith("AWS_")}
    env = {**usual, "HOME": str(shell.cwd), **CREDENTIALS, **(environment or {})}
    chosen = {name: text for name, text in env.items() if text is not None}
    return shell.run("tok-sign", "-k", uri, *words, stdin=stdin, env=chosen)


def test_every_name_of_a_key(shell: Shell, kms: Any, endpoint: str) -> None:
    """An ID, an ARN and an alias name a key, whose signatures verify and keep the order of the digests."""
    arn = made(kms)
    kms.create_alias(AliasName="alias/officer1", TargetKeyId=arn)
    shell.write("kms.der", kms.get_public_key(KeyId=arn)["PublicKey"])
    at = f"endpoint={quote(endpoint, safe='')}"
    lines = set()
    for key, query in (
        (arn, at),
        (arn.rpartition("/")[2], f"region=us-east-1&{at}"),
        ("alias/officer1", f"{at}&region=us-east-1"),
    ):
        done = sign(shell, f"awskms:///{key}?{query}").check(0)
        assert done.err == ""
        lines.add(done.out)
    assert len(lines) == 1
    assert len(lines.pop().splitlines()) == 28
    signed = f"tok-extract f.json | tok-sign -k 'awskms:///{arn}?{at}' | tok-merge -p kms.der f.json"
    shell.sh(f"{signed} | tok-verify -p 'awskms:///{arn}?{at}'", env={**shell.env, **CREDENTIALS}).check(0)


def test_as_boto3_finds_it(shell: Shell, kms: Any, endpoint: str) -> None:
    """The region and the endpoint may come from where boto3 looks; the scheme has no case; -r signs one digest."""
    uri = f"AWSKMS:///{made(kms).rpartition('/')[2]}"
    where: dict[str, str | None] = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint}
    assert len(sign(shell, uri, "-r", stdin=bytes(32), environment=where).check(0).out) == 256


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (("RSA_2048", "ENCRYPT_DECRYPT"), "the key is for ENCRYPT_DECRYPT, not for SIGN_VERIFY"),
        (("ECC_NIST_P256", "SIGN_VERIFY"), "the key is EC, but CloudHSM takes only RSA keys"),
    ],
)
def test_wrong_keys(shell: Shell, kms: Any, endpoint: str, kind: tuple[str, str], said: str) -> None:
    """A key of another kind is refused for what it is, before anything is signed."""
    done = sign(shell, f"awskms:///{made(kms, *kind)}?endpoint={endpoint}").check(2, said)
    assert (done.out, done.err.count("\n")) == (b"", 1)


NOBODY: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


@pytest.mark.parametrize(
    ("uri", "environment", "said"),
    [
        ("awskms:///k", {}, "you must specify a region\n"),
        ("awskms:///k?region=us-east-1", NOBODY, "unable to locate credentials\n"),
        ("awskms:///k?region=us-east-1", {**NOBODY, "AWS_ACCESS_KEY_ID": "x"}, "partial credentials found in env"),
        ("awskms:///k?region=us-east-1", {"AWS_PROFILE": "nobody"}, "the config profile (nobody) could not be found\n"),
        ("awskms:///k?region=a b", {}, "provided region_name 'a b' doesn't match"),
        ("awskms:///k?region=us-east-1&endpoint=localhost", {}, "invalid endpoint: localhost"),
        ("awskms:///k?region=us-east-1&endpoint=http://127.0.0.1:1", {}, "could not connect to the endpoint URL"),
    ],
)
def test_trouble_before_kms(shell: Shell, uri: str, environment: dict[str, str | None], said: str) -> None:
    """What is missing before KMS is asked is one line in the words of boto3, and most often a hint."""
    done = sign(shell, uri, environment=environment).check(2, f"tok-sign: awskms:///k: {said}")
    assert done.out == b""
    assert "hint: " in done.err or "profile" in said


class Refusing(BaseHTTPRequestHandler):
    """A KMS that refuses everything, for a reason that a test has set."""

    status, code, asked = 400, "", 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"__type": self.code, "message": "a\x1bb TOKEN-OF-THE-SESSION"}).encode()
        self.send_response(self.status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    """The URL of such a KMS."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("code", "said", "shows"),
    [
        ("AccessDeniedException", "KMS answers AccessDeniedException: a\\x1bb TOKEN", True),
        ("InvalidSignatureException", "KMS answers InvalidSignatureException\ntok-sign: hint: check ", False),
        ("ThrottlingException", "hint: try again, with tok-sign -j 1", True),
    ],
)
def test_refusals(shell: Shell, refusing: str, code: str, said: str, shows: bool) -> None:  # noqa: FBT001 - a row
    """Each refusal is one line; no text moves the cursor, and that about a signature of a request is not shown."""
    Refusing.code, Refusing.asked = code, 0
    done = sign(shell, f"awskms:///k?region=us-east-1&endpoint={refusing}").check(2, "tok-sign: awskms:///k: ", said)
    assert done.out == b""
    assert done.err.count("\n") <= 2
    assert ("TOKEN-OF" in done.err) == shows
    assert "\x1b" not in done.err
    assert Refusing.asked <= 4


def test_an_answer_without_a_key(shell: Shell, refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no KMS, but answers, is not a defect of the tool."""
    monkeypatch.setattr(Refusing, "status", 200)
    done = sign(shell, f"awskms:///k?region=us-east-1&endpoint={refusing}").check(2, "awskms:///k: the key is for None")
    assert (done.out, done.err.count("\n")) == (b"", 1)


def test_a_login_takes_it_too(shell: Shell) -> None:
    """tok-login opens its key the same way."""
    words = ["--username", "officer1", "--role", "admin", "--", "user list"]
    env = {**shell.env, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(shell.cwd)}
    shell.run("tok-login", "-k", "awskms://x/y", *words, env=env).check(2, "not the URI of a key in AWS KMS")


def test_it_is_enrolled(shell: Shell, kms: Any, endpoint: str) -> None:
    """A key in KMS becomes a second factor, and logs in."""
    uri = f"awskms:///{made(kms)}?endpoint={quote(endpoint, safe='')}"
    cli = "tok-rehearse --state state.json"
    shell.write("password", b"for-practice\n")
    shell.sh(f"printf '%s\\n' 'cluster activate' for-practice for-practice | {cli} interactive").check(0)
    env = {**shell.env, "HOME": str(shell.cwd), **CREDENTIALS}
    words = ["-k", uri, "--username", "admin", "--role", "admin", "--password", "file:password", "--cli", cli]
    shell.run("tok-enroll", *words, env=env).check(0, "tok-enroll: logged in with the new key as admin (admin)\n")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (b"raise ModuleNotFoundError(name='boto3')", ""),
        (b"raise ImportError('no\\x1bcc')", ", which cannot be loaded: no\\x1bcc"),
        (b"import botocore.none", ", which cannot be loaded: No module named 'botocore.none'"),
        (b"raise OSError", ", which cannot be loaded: OSError"),
    ],
)
def test_without_boto3(shell: Shell, module: bytes, said: str) -> None:
    """Where the package is missing or broken, the message says so, and names the extra."""
    shell.write("boto3.py", module)
    done = sign(shell, "awskms:///k", environment={"PYTHONPATH": str(shell.cwd)})
    assert done.err == (
        f"tok-sign: a key in AWS KMS needs the package boto3{said}\n"
        "tok-sign: hint: pip install 'toktools[kms]', pipx inject toktools boto3, or the bundle's install.sh\n"
    )
    assert done.status == 2


def test_it_is_imported_for_such_a_key_alone(shell: Shell, keys: Path) -> None:
    """A key in a file does not wait for boto3."""
    shell.write("boto3.py", b"raise ImportError")
    env = {**shell.env, "PYTHONPATH": str(shell.cwd)}
    shell.sh(f"tok-extract '{UNSIGNED}' | tok-sign -k '{keys}/pkcs8.pem'", env=env).check(0)

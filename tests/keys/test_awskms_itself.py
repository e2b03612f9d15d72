"""A key in AWS KMS, in this process: what is asked of boto3, and what its answers and troubles become."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from conftest import need, rsa_key
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from toktools.errors import ToktoolsError
from toktools.system.prompt import Source

need("boto3")

import boto3  # noqa: E402 - only where it is there
from botocore import exceptions  # noqa: E402 - the same

from toktools.keys import awskms  # noqa: E402 - which imports it

KEY = rsa_key()
ARN = "arn:aws:kms:eu-west-1:123456789012:key/k"


def der(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


class Kms:
    """Stands in for boto3's session and its client: it keeps what it was asked, and answers what a test has set."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.answer: dict[str, Any] = {"KeyUsage": "SIGN_VERIFY", "PublicKey": der(KEY), "KeyId": ARN}
        self.error: Exception | None = None
        self.meta = SimpleNamespace(endpoint_url="https://kms.example")

    def client(self, service: str, **more: Any) -> Kms:
        self.asked = {"service": service, **more}
        return self

    def get_public_key(self, **more: Any) -> dict[str, Any]:
        self.asked.update(more)
        if self.error:
            raise self.error
        return self.answer

    def sign(self, **more: Any) -> dict[str, Any]:
        self.asked.update(more)
        if self.error:
            raise self.error
        return {"Signature": KEY.sign(more["Message"], PKCS1v15(), Prehashed(SHA256()))}


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Kms:
    """It takes the place of what boto3 makes."""
    kms = Kms()
    monkeypatch.setattr(boto3.session, "Session", lambda: kms)
    return kms


def opened(uri: str = "awskms:///k") -> Any:
    return awskms.open_uri(uri, Source.ask("--passin"), print)


def refused(call: Callable[[], object]) -> ToktoolsError:
    with pytest.raises(ToktoolsError) as raised:
        call()
    return raised.value


@pytest.mark.parametrize(
    ("uri", "key", "region", "endpoint"),
    [
        ("awskms:///k", "k", None, None),
        ("AWSKMS:///alias/officer1", "alias/officer1", None, None),
        ("awskms:///alias%2Fofficer1?", "alias/officer1", None, None),
        (f"awskms:///{ARN}", ARN, "eu-west-1", None),
        (f"awskms:///{ARN}?region=us-east-1", ARN, "us-east-1", None),
        ("awskms:///arn:a:b:c:d", "arn:a:b:c:d", None, None),
        ("awskms:///arm:a:b:c:d:e", "arm:a:b:c:d:e", None, None),
        ("awskms:///k?region=a&endpoint=http://h:1", "k", "a", "http://h:1"),
        (f"awskms:///k?&endpoint={quote('http://h/?a=b', safe='')}&", "k", None, "http://h/?a=b"),
    ],
)
def test_where_the_key_is(kms: Kms, uri: str, key: str, region: str | None, endpoint: str | None) -> None:
    """An ARN has its region, which ?region= overrides; for all else boto3 looks for one."""
    opened(uri)
    asked = kms.asked
    assert (asked["service"], asked["KeyId"], asked["region_name"]) == ("kms", key, region)
    assert asked["endpoint_url"] == endpoint


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        *((f"awskms:{rest}", "not the URI of a key in AWS KMS") for rest in ("", "k", "/k", "//k", "//host/k")),
        *((f"awskms:///{key}", "the awskms URI names no key") for key in ("", "?region=a", "a%20b", "%0a", "%C3%A4")),
        *(
            (f"awskms:///k?{query}", "after its question mark, an awskms URI takes only region and endpoint")
            for query in ("profile=x", "region", "region=", "=a", "Region=a", "region=a&region=a")
        ),
    ],
)
def test_what_is_no_uri(uri: str, said: str) -> None:
    """It is refused, with the syntax."""
    error = refused(lambda: opened(uri))
    assert error.message == said
    assert error.hint.startswith("write awskms:///KEY")


def test_a_signature(kms: Kms) -> None:
    """The digest is signed as it is, by the key that has the ARN, whatever an alias names by then."""
    digest = bytes(range(32))
    signer = opened("awskms:///alias/officer1")
    assert (signer.max_parallel(None), signer.max_parallel(3)) == (8, 3)
    assert kms.asked["config"].retries["total_max_attempts"] == 4
    KEY.public_key().verify(signer.sign(digest), digest, PKCS1v15(), Prehashed(SHA256()))
    assert (kms.asked["KeyId"], kms.asked["Message"], kms.asked["MessageType"]) == (ARN, digest, "DIGEST")
    assert kms.asked["SigningAlgorithm"] == "RSASSA_PKCS1_V1_5_SHA_256"
    del kms.answer["KeyId"]
    opened("awskms:///k").sign(digest)
    assert kms.asked["KeyId"] == "k"


def test_a_signer_that_hashes(kms: Kms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistake is named, as tok-verify names it."""
    signer = opened()
    monkeypatch.setattr(kms, "sign", lambda **more: {"Signature": KEY.sign(more["Message"], PKCS1v15(), SHA256())})
    error = refused(lambda: signer.sign(bytes(32)))
    said = "the digest was hashed once more before it was signed"
    assert error.message == f"the key is broken, or its signer made a mistake: {said}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"KeyUsage": "ENCRYPT_DECRYPT"}, "the key is for ENCRYPT_DECRYPT, not for SIGN_VERIFY"),
        (
            {"PublicKey": der(ec.generate_private_key(ec.SECP256R1()))},
            "the key is EC, but CloudHSM takes only RSA keys",
        ),
        ({"PublicKey": b"no key"}, "no public key can be read"),
    ],
)
def test_another_key(kms: Kms, answer: dict[str, Any], said: str) -> None:
    """What is not RSA for signing is named."""
    kms.answer.update(answer)
    assert refused(opened).message == f"awskms:///k: {said}"


def answered(code: str, text: str = "a\x1bb") -> exceptions.ClientError:
    return exceptions.ClientError({"Error": {"Code": code, "Message": text}}, "Sign")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (answered("NewException"), "KMS answers NewException: a\\x1bb"),
        (answered("AccessDeniedException", "x" * 301), f"KMS answers AccessDeniedException: {'x' * 265}"),
        (answered("SignatureDoesNotMatch"), "KMS answers SignatureDoesNotMatch"),
        (answered("New\x1b", ""), "KMS answers New\\x1b"),
        (exceptions.ClientError({}, "Sign"), "KMS answers with an unknown error"),
        (exceptions.NoCredentialsError(), "unable to locate credentials"),
        (exceptions.ParamValidationError(report="too short:\nKeyId"), "parameter validation failed: too short: KeyId"),
        (ValueError("Invalid endpoint"), "invalid endpoint"),
    ],
)
def test_trouble(kms: Kms, error: Exception, said: str) -> None:
    """It is one line in the words of KMS or boto3, escaped and cut."""
    signer = opened()
    kms.error = error
    for call in (opened, lambda: signer.sign(bytes(32))):
        assert refused(call).message == f"awskms:///k: {said}"

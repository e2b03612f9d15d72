"""A key in AWS KMS, named by an awskms: URI as Sigstore's tools have it, and reached by boto3."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import boto3
from botocore import exceptions
from botocore.config import Config
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from toktools.errors import ToktoolsError, shown
from toktools.keys import DOCUMENTED_BITS
from toktools.keys.signer import Signer
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toktools.system.prompt import Source

_PREFIX = "awskms:///"
_SYNTAX = "write awskms:///KEY with a key's ID, ARN or alias/NAME, and ?region= or ?endpoint= if needed"
_QUERY = ("region", "endpoint")
_ALGORITHM = "RSASSA_PKCS1_V1_5_SHA_256"
_MAX_REQUESTS = 8
"""Requests at once: each takes the time of a round trip; KMS allows some hundreds a second."""
_TIMEOUT_SECONDS = 10  # for a connection or a response
_MAX_TRIES = 4  # of each request, if KMS is busy or cannot be reached
_MAX_SHOWN = 300

_CREDENTIALS = "boto3 takes them from the environment, ~/.aws, a role, or aws sso login"
_CODES_WITH_TEXT = ("AccessDeniedException", "KMSInvalidStateException", "DisabledException", "NotFoundException")
"""Codes whose text helps. That of others may hold a session token, as with a wrong signature of a request."""
_NETWORK = "check the network, the region and the endpoint"
_ERRORS = {
    "AccessDeniedException": ("permission denied", "kms:GetPublicKey and kms:Sign are needed"),
    "NotFoundException": ("no such key", "check the account, and the region: ?region= in the URI, or that of the ARN"),
    "DisabledException": ("the key is disabled", ""),
    "KMSInvalidStateException": ("the state of the key does not allow it to sign", ""),
    "KeyUnavailableException": ("the key is not available now", ""),
    "UnsupportedOperationException": ("not an RSA key that signs", ""),
    "InvalidKeyUsageException": ("not an RSA key that signs", ""),
    "InvalidArnException": ("not a key's ID, ARN or alias", _SYNTAX),
    "ValidationException": ("not a key's ID, ARN or alias", _SYNTAX),
    "ExpiredTokenException": ("the AWS credentials have expired", _CREDENTIALS),
    "UnrecognizedClientException": ("AWS does not know the credentials", _CREDENTIALS),
    "InvalidClientTokenId": ("AWS does not know the credentials", _CREDENTIALS),
    "InvalidSignatureException": ("AWS does not accept the credentials", "or the clock of this machine is wrong"),
    "SignatureDoesNotMatch": ("AWS does not accept the credentials", "or the clock of this machine is wrong"),
    "ThrottlingException": ("KMS is asked too often (throttled)", "try again, with tok-sign -j 1"),
    "LimitExceededException": ("KMS is asked too often (throttled)", "try again, with tok-sign -j 1"),
}
_FAILURES: tuple[tuple[type[Exception], str, str], ...] = (
    (exceptions.NoCredentialsError, "no AWS credentials", _CREDENTIALS),
    (exceptions.PartialCredentialsError, "only a part of the AWS credentials is there", _CREDENTIALS),
    (exceptions.CredentialRetrievalError, "the AWS credentials cannot be fetched", _CREDENTIALS),
    (exceptions.SSOError, "the AWS sign-on has ended, or was not made", "aws sso login makes it"),
    (exceptions.ProfileNotFound, "there is no such AWS profile", "see AWS_PROFILE and ~/.aws/config"),
    (exceptions.ConfigParseError, "the AWS configuration cannot be read", "see ~/.aws/config"),
    (exceptions.NoRegionError, "no AWS region", "?region= in the URI or AWS_DEFAULT_REGION names it"),
    (exceptions.InvalidRegionError, "not an AWS region", "?region= in the URI or AWS_DEFAULT_REGION names it"),
    (exceptions.SSLError, "the server's certificate is not accepted", ""),
    (exceptions.ProxyConnectionError, "the proxy cannot be reached", "see HTTPS_PROXY"),
    (exceptions.ConnectionError, "KMS cannot be reached", _NETWORK),
    (exceptions.HTTPClientError, "KMS cannot be reached", _NETWORK),
    (exceptions.ParamValidationError, "not a key's ID, ARN or alias", _SYNTAX),
    (ValueError, "not an endpoint", "?endpoint= in the URI is a URL"),
)
"""Failures to get a response, with a reason and a hint, the special before the general."""


class KmsKey(Signer):
    """An RSA-2048 key in KMS; boto3's client may be used by several threads."""

    def __init__(self, client: Any, arn: str, name: str, public: RSAPublicKey) -> None:  # noqa: ANN401 - boto3's are made at run time
        super().__init__(public)
        self._client = client
        self._arn = arn
        self._name = name

    def max_parallel(self, requested: int | None) -> int:
        """Return *requested*, or some: each request waits for a round trip."""
        return requested or _MAX_REQUESTS

    def _sign(self, digest: bytes) -> bytes:
        with _kms_errors(self._name):
            answer = self._client.sign(
                KeyId=self._arn, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHM
            )
        return bytes(answer.get("Signature", b""))  # of which the size is then wrong


def open_signer(uri: str, _source: Source, _warn: Callable[[str], None]) -> Signer:
    """Open the key in KMS that *uri* names, with the credentials that boto3 finds (AWS KMS, GetPublicKey and Sign).

    Raises ToktoolsError, also for a key that is not RSA for signing.
    """
    key, query = _parse(uri)
    name = f"awskms:///{shown(key)}"
    with _kms_errors(name):
        client = _client(key, query)
        event(f"asking KMS at {client.meta.endpoint_url} for the public key")
        answer = client.get_public_key(KeyId=key)
    usage = str(answer.get("KeyUsage"))
    public = _public(answer.get("PublicKey", b""))
    if usage != "SIGN_VERIFY" or public is None:
        spec = shown(f"{answer.get('KeySpec') or 'not RSA'} for {usage}")
        raise ToktoolsError(f"{name}: the key is {spec}, but CloudHSM takes RSA_{DOCUMENTED_BITS} for SIGN_VERIFY")
    # An alias may name another key later; the ARN cannot.
    return KmsKey(client, answer.get("KeyId", key), name, public)


def _public(content: bytes) -> RSAPublicKey | None:
    try:
        key = load_der_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, RSAPublicKey) else None


def _parse(uri: str) -> tuple[str, dict[str, str]]:
    start, path = uri[: len(_PREFIX)], uri[len(_PREFIX) :]
    if start.lower() != _PREFIX:
        raise ToktoolsError("not the URI of a key in AWS KMS", _SYNTAX)
    path, _, attributes = path.partition("?")
    query: dict[str, str] = {}
    for part in filter(None, attributes.split("&")):
        name, equals, value = part.partition("=")
        if name not in _QUERY or not equals or not value:
            raise ToktoolsError("an unknown attribute after the question mark of the awskms URI", _SYNTAX)
        if name in query:
            raise ToktoolsError(f"{name} occurs twice in the awskms URI")
        query[name] = unquote(value)
    key = unquote(path)
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ToktoolsError("no key in the awskms URI", _SYNTAX)
    return key, query


def _client(key: str, query: dict[str, str]) -> Any:  # noqa: ANN401 - boto3's are made at run time
    is_arn = key.startswith("arn:") and key.count(":") > 4  # noqa: PLR2004 - arn:aws:kms:REGION:ACCOUNT:key/ID
    region = query.get("region") or (key.split(":")[3] if is_arn else None)
    config = Config(
        connect_timeout=_TIMEOUT_SECONDS,
        read_timeout=_TIMEOUT_SECONDS,
        max_pool_connections=_MAX_REQUESTS,
        retries={"mode": "standard", "total_max_attempts": _MAX_TRIES},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a Python that boto3 will not take much longer
        return boto3.session.Session().client(
            "kms", region_name=region, endpoint_url=query.get("endpoint"), config=config
        )


@contextmanager
def _kms_errors(name: str) -> Iterator[None]:
    try:
        yield
    except exceptions.ClientError as error:
        answer = error.response.get("Error", {})
        code = str(answer.get("Code", ""))
        reason, hint = _ERRORS.get(code, (f"KMS answers {shown(code[:_MAX_SHOWN]) or 'nothing that is known'}", ""))
        detail = shown(str(answer.get("Message", ""))[:_MAX_SHOWN]) if code in _CODES_WITH_TEXT else ""
        raise ToktoolsError(f"{name}: {reason}{f': {detail}' if detail else ''}", hint) from None
    except (exceptions.BotoCoreError, ValueError) as error:
        found = [(reason, hint) for kind, reason, hint in _FAILURES if isinstance(error, kind)]
        reason, hint = found[0] if found else (f"boto3 failed: {type(error).__name__}", "")
        raise ToktoolsError(f"{name}: {reason}", hint) from None

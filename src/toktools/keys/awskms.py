"""A key in AWS KMS, named by an awskms: URI as Sigstore's tools have it, and reached by boto3."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, unquote

import boto3
from botocore import exceptions
from botocore.config import Config

from toktools.errors import ToktoolsError, shown
from toktools.keys.files import parse_public_key
from toktools.keys.signer import Signer
from toktools.system.events import event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toktools.signatures import PublicKey
    from toktools.system.prompt import Source

_PREFIX = "awskms:///"
_SYNTAX = "write awskms:///KEY with a key's ID, ARN or alias/NAME, and ?region= or ?endpoint= if needed"
_QUERY = {"region", "endpoint"}
_ALGORITHM = "RSASSA_PKCS1_V1_5_SHA_256"
_MAX_REQUESTS = 8
"""Requests at once: each takes the time of a round trip; KMS allows some hundreds a second."""
_TIMEOUT_SECONDS = 10  # for a connection or a response
_MAX_TRIES = 4  # of each request, if KMS is busy or cannot be reached
_MAX_SHOWN = 300

_CREDENTIALS = "boto3 takes the credentials from the environment, ~/.aws, a role, or aws sso login"
_REGION = "?region= in the URI or AWS_DEFAULT_REGION names the region"
_NETWORK = "check the network, the region and the endpoint"
_HINTS = {
    "AccessDeniedException": "kms:GetPublicKey and kms:Sign are needed",
    "NotFoundException": "check the account, and the region: ?region= in the URI, or that of the ARN",
    **dict.fromkeys(
        ("InvalidKeyUsageException", "UnsupportedOperationException"), "the key must be an RSA key for SIGN_VERIFY"
    ),
    **dict.fromkeys(("InvalidArnException", "ValidationException", "ParamValidationError"), _SYNTAX),
    **dict.fromkeys(("ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId"), _CREDENTIALS),
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"), _CREDENTIALS),
    **dict.fromkeys(
        ("InvalidSignatureException", "SignatureDoesNotMatch"), "check the credentials and this machine's clock"
    ),
    **dict.fromkeys(("ThrottlingException", "LimitExceededException"), "try again, with tok-sign -j 1"),
    **dict.fromkeys(("NoRegionError", "InvalidRegionError"), _REGION),
    **dict.fromkeys(("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError"), _NETWORK),
    "ValueError": "?endpoint= in the URI is a URL",
}
"""By the code of an answer of KMS, or the name of an exception of boto3."""


class KmsKey(Signer):
    """An RSA-2048 key in KMS; boto3's client may be used by several threads."""

    def __init__(self, client: Any, arn: str, name: str, public: PublicKey) -> None:  # noqa: ANN401 - boto3's are made at run time
        super().__init__(public)
        self._client = client
        self._arn = arn
        self._name = name

    def max_parallel(self, requested: int | None) -> int:
        """Return *requested*, or a default: each request waits for a round trip."""
        return requested or _MAX_REQUESTS

    def _sign(self, digest: bytes) -> bytes:
        with _kms_errors(self._name):
            answer = self._client.sign(
                KeyId=self._arn, Message=digest, MessageType="DIGEST", SigningAlgorithm=_ALGORITHM
            )
        return bytes(answer.get("Signature", b""))  # of which the size is then wrong


def open_uri(uri: str, _source: Source, _warn: Callable[[str], None]) -> Signer:
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
    if usage != "SIGN_VERIFY":
        raise ToktoolsError(f"{name}: the key is for {shown(usage)}, not for SIGN_VERIFY")
    public = parse_public_key(answer.get("PublicKey", b""), name)
    # An alias may name another key later; the ARN cannot.
    return KmsKey(client, answer.get("KeyId", key), name, public)


def _parse(uri: str) -> tuple[str, dict[str, str]]:
    start, path = uri[: len(_PREFIX)], uri[len(_PREFIX) :]
    if start.lower() != _PREFIX:
        raise ToktoolsError("not the URI of a key in AWS KMS", _SYNTAX)
    path, _, attributes = path.partition("?")
    pairs = parse_qsl(attributes, keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs) or not query.keys() <= _QUERY or not all(query.values()):
        raise ToktoolsError("after its question mark, an awskms URI takes only region and endpoint", _SYNTAX)
    key = unquote(path)
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ToktoolsError("the awskms URI names no key", _SYNTAX)
    return key, query


def _client(key: str, query: dict[str, str]) -> Any:  # noqa: ANN401 - boto3's are made at run time
    is_arn = key.startswith("arn:") and key.count(":") > 4  # noqa: PLR2004 - arn:aws:kms:REGION:ACCOUNT:key/ID
    region = query.get("region") or (key.split(":")[3] if is_arn else None)
    config = Config(
        connect_timeout=_TIMEOUT_SECONDS,
        read_timeout=_TIMEOUT_SECONDS,
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
        # About the signature of a request, KMS repeats the request, in which there may be a session token.
        text = "" if "Signature" in code else str(answer.get("Message", ""))
        raise _trouble(name, code, f"KMS answers {code or 'with an unknown error'}{text and f': {text}'}") from None
    except (exceptions.BotoCoreError, ValueError) as error:
        text = str(error)
        raise _trouble(name, type(error).__name__, text[:1].lower() + text[1:]) from None


def _trouble(name: str, code: str, reason: str) -> ToktoolsError:
    text = " ".join(reason.split()).rstrip(".")[:_MAX_SHOWN]
    return ToktoolsError(f"{name}: {shown(text)}", _HINTS.get(code, ""))

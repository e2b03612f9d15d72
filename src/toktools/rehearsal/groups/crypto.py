"""The CLI's commands that work with keys: signing and verifying."""

from __future__ import annotations

from types import SimpleNamespace

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import CommandLine, Option
from toktools.rehearsal.groups.shared import APPROVAL, CLUSTER_ID, FILTER, approval, filters, text
from toktools.rehearsal.software import HASHES
from toktools.rehearsal.syntax import Choice, Command, Several
from toktools.system import files

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue

_MAX_SIZE = 1 << 20


def _sign(shell: Dialogue, given: SimpleNamespace) -> object:
    approved, content = approval(given), _content(given.data, given.data_path, "--data")
    with shell.cluster() as cluster:
        key, signature = cluster.sign(
            shell.session,
            filters(given.key_filter),
            given.hash_function,
            content,
            approved,
            is_digest=given.data_type == "digest",
        )
    return {"key-reference": key.name, "signature": text(signature)}


def _verify(shell: Dialogue, given: SimpleNamespace) -> object:
    content = _content(given.data, given.data_path, "--data")
    signature = _content(given.signature, given.signature_path, "--signature")
    with shell.cluster() as cluster:
        cluster.verify(
            shell.session,
            filters(given.key_filter),
            given.hash_function,
            content,
            signature,
            is_digest=given.data_type == "digest",
        )
    return {"message": "Signature verified successfully"}


def _content(given: str | None, path: str | None, flag: str) -> bytes:
    if path is not None:
        return files.read(path, _MAX_SIZE).content
    try:
        return encoding.decode((given or "").encode())
    except ToktoolsError as error:
        raise error.at(flag) from None


def _check(given: SimpleNamespace) -> None:
    filters(given.key_filter)


_KEY_FILTER = Several("--key-filter", "KEY_FILTER", FILTER.about, required=True)
_HASH = Choice("--hash-function", "what the data is hashed with", dict.fromkeys(HASHES, ""))
_TYPE = Choice(
    "--data-type", "what the data is", {"raw": "to be hashed", "digest": "a DigestInfo in DER"}, required=False
)
_PATH = Option("--data-path", "FILE", "the file with the data")
_DATA = Option("--data", "BASE64", "the data")
_SIGNATURE_PATH = Option("--signature-path", "FILE", "the file with the signature")
_SIGNATURE = Option("--signature", "BASE64", "the signature")

COMMANDS = (
    Command(
        CommandLine(
            "crypto sign rsa-pkcs",
            "Sign with RSA-PKCS. For crypto users.",
            "crypto sign rsa-pkcs --key-filter attr.label=rsa-private --hash-function sha256 --data YWJjMTIz",
            CLUSTER_ID,
            _KEY_FILTER,
            _HASH,
            _PATH,
            _DATA,
            APPROVAL,
            _TYPE,
        ),
        _sign,
        check=_check,
        either=((_PATH, _DATA),),
    ),
    Command(
        CommandLine(
            "crypto verify rsa-pkcs",
            "Verify an RSA-PKCS signature. For crypto users.",
            "crypto verify rsa-pkcs --key-filter attr.label=rsa-public --hash-function sha256 "
            "--data YWJjMTIz --signature-path signature",
            CLUSTER_ID,
            _KEY_FILTER,
            _HASH,
            _PATH,
            _DATA,
            _SIGNATURE_PATH,
            _SIGNATURE,
            _TYPE,
        ),
        _verify,
        check=_check,
        either=((_PATH, _DATA), (_SIGNATURE_PATH, _SIGNATURE)),
    ),
)

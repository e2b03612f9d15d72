"""Kinds of text that people use in place of a key, a token file, a digest or a signature: name and hint of each.

No decision depends on these names: they only say more about an error that is already known.
"""

from __future__ import annotations

import re

from toktools import encoding
from toktools.encoding import DIGEST_SIZE, MIN_TEXT, SIGNATURE_SIZES, is_hexadecimal, is_text
from toktools.errors import ToktoolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Union

    Row = tuple[Union[bytes, Callable[[bytes], object]], str, str]
    """A pattern or a function that knows a kind of text, its name, and how to mend it."""

_MAX_BYTES = 1 << 16
"""The bytes of a file that are searched."""


def not_key(name: str, content: bytes, needed: str) -> ToktoolsError:
    """Return the error for a file without a key of the kind *needed*, with the kind of the file if it is known."""
    damages = _damages("PEM") if re.search(rb"BEGIN\W", content[:_MAX_BYTES]) else []
    kind, hint = _identify(content, [*_ANYWHERE, _PKCS7, *damages, *_IN_PLACE_OF_KEYS, *_FILES])
    if not kind:
        return ToktoolsError(f"{name}: no {needed} can be read", hint)
    return ToktoolsError(f"{name}: {kind}, {'which cannot be read' if needed in kind else f'not a {needed}'}", hint)


def not_token_file(content: bytes) -> ToktoolsError | None:
    """Return the error for a file that is not JSON, if its kind is known."""
    damages = _damages("JSON") if re.search(rb"\b(?:tokens?|unsigned|approval_data)\b", content[:_MAX_BYTES]) else []
    rows = [*_ANYWHERE, _MARK, _PKCS7, *damages, *_IN_PLACE_OF_TOKEN_FILES, *_KEYS, *_FILES, _ARMOUR]
    kind, hint = _identify(content, rows)
    return ToktoolsError(f"{kind}, not a token file", hint) if kind else None


def not_base64(text: bytes) -> ToktoolsError:
    """Return the error for a text that is not the canonical base64 of a digest or a signature."""
    if error := known_record(text):
        return error
    if not text:
        return ToktoolsError("empty")
    if _is_raw(text):
        return ToktoolsError("raw bytes, not base64", "openssl base64 -A converts them to base64")
    if text != b"".join(text.split()):
        return ToktoolsError("white space in the base64", encoding.UNWRAPPED)
    if not _is_base64(text):
        return ToktoolsError("not base64")
    return ToktoolsError(
        "not canonical base64", "it is cut short, or its padding or last character is wrong (RFC 4648)"
    )


def known_record(text: bytes) -> ToktoolsError | None:
    """Return the error for a text in place of the base64 of a digest or a signature, if its kind is known."""
    kind, hint = _record(text)
    if not kind:
        return None
    return ToktoolsError(kind if "base64 " in kind or kind == "no signature" else f"{kind}, not base64", hint)


def not_raw(text: bytes) -> ToktoolsError:
    """Return the error for a text in place of a digest in raw bytes."""
    kind, hint = _record(text.strip())
    if kind and _sizes(text) != {DIGEST_SIZE}:
        return ToktoolsError(f"{kind}, not raw bytes", hint)
    return ToktoolsError("base64 text, not raw bytes", "leave out -r, or decode it with openssl base64 -d -A")


def mistyped_key(text: str) -> str:
    """Return a hint if the name of a key does not look like the path of a file."""
    return next((hint for begin, hint in _NAMES_OF_KEYS if text.startswith(begin)), "")


def _record(text: bytes) -> tuple[str, str]:
    # In random bytes a row might match by chance.
    if _is_raw(text) and not text.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "", ""
    return _identify(text, [*_ANYWHERE, _MARK, *_IN_PLACE_OF_RECORDS])


def _identify(content: bytes, rows: Sequence[Row]) -> tuple[str, str]:
    """Return the name and the hint of the first row that knows *content*; two empty strings if none does."""
    content = content[:_MAX_BYTES]
    for known, name, hint in rows:
        if known(content) if callable(known) else re.search(known, content, re.MULTILINE | re.DOTALL):
            return name, hint
    return "", ""


def _is_base64(text: bytes) -> bool:
    return re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", text) is not None


def _decode(content: bytes) -> bytes:
    """Decode base64 with any line breaks; return nothing if it is not base64."""
    text = b"".join(content.split())
    return encoding.decode_leniently(text) if _is_base64(text) else b""


def _decode_text(content: bytes) -> bytes:
    """Decode base64 of text, and strip white space around the text; return nothing if it is not that."""
    decoded = _decode(content)
    return decoded.strip() if len(decoded) >= MIN_TEXT and is_text(decoded) else b""


def _is_several(text: bytes) -> bool:
    """Return whether there are several digests or signatures, with something between or only their padding."""
    words = [word for word in re.split(rb"[=,;\s]+", text) if word]
    return len(words) > 1 and {len(word) for word in words} in ({43}, {342}, {512}, {683})


def _is_base64url(content: bytes) -> bool:
    text = b"".join(content.split())
    return re.fullmatch(rb"[A-Za-z0-9_-]{32,}={0,2}", text) is not None and not _is_base64(text)


def _is_wrapped(text: bytes) -> bool:
    return b"\n" in text.strip() and not re.search(rb"[^A-Za-z0-9+/=\s]", text)


def _sizes(content: bytes) -> set[int]:
    """Return the sizes of the records in lines of base64, 0 for anything else."""
    return {len(_decode(line)) for line in content.split()} or {0}


def _lacks_marks(content: bytes) -> bool:
    """Return whether a BEGIN or END line of PEM is missing, lacks some of its hyphens, or is not alone on its line."""
    marks = re.findall(rb"\b(?:BEGIN|END) " + _LABEL + rb"\b(?! BLOCK)", content)
    whole = re.findall(rb"^-----(BEGIN|END) " + _LABEL + rb"-----[ \t]*\r?$", content, re.MULTILINE)
    return len(marks) > len(whole) or whole.count(b"BEGIN") != whole.count(b"END")


def _is_raw(content: bytes) -> bool:
    """Return whether there are random bytes; this many are never UTF-8."""
    return len(content) >= MIN_TEXT and content.decode(errors="ignore").encode() != content


def _damages(text: str) -> list[Row]:
    """Return the rows for a *text*, such as PEM, that mail, a chat or a word processor has changed."""
    return [(known, f"{text} {name}", hint) for known, name, hint in _DAMAGES]


_LABEL = rb"(?:[A-Z0-9]{1,16} ){0,4}(?:KEY|CERTIFICATE)"
_TOKEN_FILE = rb'\A\s*\{.*"(?:tokens?|unsigned|approval_data)"\s*:'
_DECODE = "tr -d '\\r\\n' < FILE | openssl base64 -d -A decodes it"
_KEYS_GO = "tok-sign -k takes a private key, and -p of other commands a public key or a certificate"
_SIGNERS = "tok-sign and tok-exec make the raw RSA signature that CloudHSM needs"
_ALONE = "aws kms sign --query Signature --output text and az ... --query signature -o tsv write a signature alone"
_COPY = "copy the file itself, not its text"

_ANYWHERE: list[Row] = [
    # PowerShell: anchore/syft#4916.
    (
        rb"\A(?:\xff\xfe|\xfe\xff|(?:[ -~]\0){2}|(?:\0[ -~]){2})",
        "text in UTF-16",
        "PowerShell redirection (>) writes it; iconv -f UTF-16 -t UTF-8 converts it",
    ),
    (rb"\Aage-encryption\.org/|^-----BEGIN AGE ENCRYPTED", "a file encrypted with age", "age -d decrypts it"),
    (rb"\A\$ANSIBLE_VAULT;", "a file encrypted with ansible-vault", "ansible-vault view FILE decrypts it"),
    (rb"\bENC\[AES256_GCM,", "a file encrypted with sops", "sops -d FILE decrypts it"),
    (rb"\ASalted__|\AU2FsdGVkX1", "a file encrypted with openssl enc", "openssl enc -d decrypts it"),
    (rb"^-----BEGIN PGP P[A-Z]{3,6} KEY BLOCK-----", "a key of PGP", "openssl genrsa makes a key that CloudHSM takes"),
    (rb"^-----BEGIN PGP MESSAGE-----", "a PGP message", "it is encrypted; gpg -d decrypts it"),
    (rb"^-----BEGIN PGP SIGNATURE-----", "a PGP signature", _SIGNERS),
    (rb"^-----BEGIN SSH SIGNATURE-----", "an SSH signature", _SIGNERS),
    # sshnet/SSH.NET#434, itchio/butler#8
    (rb"\APuTTY-User-Key-File-", "a key of PuTTY", "puttygen FILE -O private-openssh writes it in OpenSSH's format"),
    (rb"^---- BEGIN SSH2 PUBLIC", "a public key of RFC 4716", "ssh-keygen -i -f FILE writes it as ssh-rsa ..."),
    (
        rb"^-----BEGIN (NEW )?CERTIFICATE REQ|\A\x30\x82..\x30\x82..\x02\x01\x00\x30",
        "a certificate request",
        "openssl req -in FILE -pubkey -noout writes its key",
    ),
]
_MARK: Row = (
    rb"\A\xef\xbb\xbf",
    "text after a byte-order mark",
    "PowerShell and Notepad write it; tail -c +4 removes it",
)
"""Keys are read in spite of it."""

_DAMAGES: list[Row] = [
    (rb"=(?:3D|0[AD])", "in quoted-printable", "python3 -m quopri -d FILE decodes it"),
    (rb"^[ \t]*[>|]", "of a quoted mail", "sed 's/^[>|[:blank:]]*//' FILE removes the > before its lines"),
    (rb"\xe2\x80[\x90-\x9f]|\xc2[\xab\xbb]", "with curly quotes or long dashes", f"word processors make them; {_COPY}"),
    (rb"\xc2[\xa0\xad]|\xe2\x80[\x80-\x8f\xaf]|\xe2\x81\xa0|\xef\xbb\xbf", "with no-break or invisible spaces", _COPY),
    (rb"&(?:quot|amp|nbsp|#\d+|#x[0-9a-fA-F]+);", "with HTML entities, such as &quot;", _COPY),
    (rb"^[ \t]*(?:```|~~~)", "between code fences", "remove the lines with ``` or ~~~"),
]

_IN_PLACE_OF_KEYS: list[Row] = [
    # auth0/node-jsonwebtoken#191
    (rb"\A\s*[{\[].*BEGIN " + _LABEL, "PEM inside JSON", "jq -r .NAME writes a JSON string alone"),
    (
        rb"BEGIN " + _LABEL + rb"-----\s*\\(?:r\\)?\\?n",
        "PEM with \\n instead of line ends",
        "awk '{gsub(/\\\\n/, \"\\n\")} 1' FILE converts them",
    ),
    (
        rb"^[ \t*]+-----BEGIN " + _LABEL + rb"-----",
        "PEM with something before its lines",
        "sed 's/^[*[:blank:]]*//' FILE removes it",
    ),
    (
        _lacks_marks,
        "PEM without its BEGIN or END line",
        "the file is cut short, or lacks hyphens: -----BEGIN ... ----- has five on each side",
    ),
    # Kubernetes' and others' secrets: sigstore/cosign#1088.
    (lambda content: b"-BEGIN " in _decode(content), "base64 of PEM", _DECODE),
    (
        lambda content: _decode(content).startswith((b"\x30\x81", b"\x30\x82")),
        "base64 without BEGIN and END lines",
        f"{_DECODE} to DER, which works too",
    ),
    (_TOKEN_FILE, "a token file", "-k and -p take keys; give a token file as an operand"),
    # openssl reads these two: PKCS#8 with the label of PKCS#1, or the reverse, and what an editor or a padding adds.
    (
        rb"^-----BEGIN (?:RSA PRIVATE KEY-----\s+MII...IBADAN|PRIVATE KEY-----\s+MII...IBAAKC)",
        "PEM with the label of another format",
        "openssl pkey -in FILE -out NEW writes it with the right one",
    ),
    (
        lambda content: 0 < encoding.der_size(content) < len(content),
        "DER with something behind its end",
        "openssl pkey -in FILE -out NEW writes it without",
    ),
    (lambda content: len(content) < encoding.der_size(content), "DER that is cut short", "copy the file again"),
    (rb'\A\s*\{.*"kty"\s*:', "a JSON Web Key", "convert it to PEM with the program that made it"),
    (rb"\A\xfe\xed\xfe\xed|\A\xce\xce\xce\xce", "a Java key store", "keytool -importkeystore writes it as PKCS12"),
    (is_hexadecimal, "hexadecimal digits", "xxd -r -p FILE NEW writes the bytes, which may be a key in DER"),
]

_IN_PLACE_OF_TOKEN_FILES: list[Row] = [
    (
        rb'\A\s*\{.*"[A-Za-z0-9+/]+=*\r?\n[A-Za-z0-9+/=\s]*"',
        "JSON with base64 wrapped into lines",
        encoding.UNWRAPPED,
    ),
    (rb"\A\x30[\x80-\x83]", "a key or a certificate in DER", _KEYS_GO),
]

_KEYS: list[Row] = [
    (rb"^-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----", "a private key", _KEYS_GO),
    (rb"^-----BEGIN [A-Z ]{0,40}PUBLIC KEY-----|\A\s*ssh-rsa AAAA", "a public key", _KEYS_GO),
    (rb"^-----BEGIN CERTIFICATE-----\s*MII", "a certificate", _KEYS_GO),
]

_PKCS7: Row = (
    rb"^-----BEGIN (?:CMS|PKCS7)-----|\A\x30[\x80-\x83].{0,3}\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02",
    "a PKCS#7 file",
    "openssl pkcs7 -in FILE -print_certs writes the certificates in it; for DER, add -inform DER",
)
_ARMOUR: Row = (
    rb"^-----BEGIN ",
    "text between BEGIN and END lines",
    "certutil -encode writes such lines, which grep -v -e ----- removes; in PEM they mean a key or a certificate",
)
_HEXADECIMAL: Row = (is_hexadecimal, "hexadecimal digits", "xxd -r -p | openssl base64 -A converts them to base64")

_FILES: list[Row] = [
    (lambda content: _sizes(content) == {DIGEST_SIZE}, "digests", "tok-sign reads them from standard input"),
    (lambda content: _sizes(content) <= {*SIGNATURE_SIZES}, "signatures", "tok-merge takes them as SIGNATURE files"),
    # jedisct1/minisign#24
    (rb"\A\s*<(?i:!doctype|html)", "an HTML page", "it may be a login page instead of the file to download"),
    _HEXADECIMAL,
]

_IN_PLACE_OF_RECORDS: list[Row] = [
    *_damages("text"),
    (rb"^-----BEGIN (?:CMS|PKCS7)-----", "a CMS or PKCS#7 signature", _SIGNERS),  # openssl-cms(1)
    *_KEYS,
    _ARMOUR,
    # The arrays that runtimes print, certutil, sha256sum, openssl dgst, od and xxd.
    (
        rb"\A(?=.*(?:,|\d{3}))\W*\d{1,3}(?:[,\s]{1,3}-?\d{1,3}){31,}\W*\Z",
        "bytes as decimal numbers",
        "encode the bytes themselves as base64",
    ),
    _HEXADECIMAL,
    (
        rb"\A[0-9A-Fa-f]{64}\s|\s[0-9A-Fa-f]{64}\Z",
        "a hexadecimal digest and other words",
        "sha256sum and openssl dgst print it; sign the digests that tok-extract writes",
    ),
    # What aws and az print without a query, whole or by the line, and with a query that finds nothing.
    (rb'\A\s*(?:\{.*)?["\']?[Ss]ignature["\']?\s*[:=]', "JSON with a signature", _ALONE),
    (rb"RSASSA_P|\barn:aws|\bhttps://", "a signature and other words", _ALONE),
    (rb"\A(?i:none|null|nil|undefined)\Z", "no signature", "the query or filter of the command before found none"),
    (rb"\A\s*[{\[]", "JSON", f"tok-extract writes the digests of a token file; {_ALONE}"),
    (rb"\A[\"']", "text in quotes", "jq -r writes no quotes, and neither does the AWS CLI with --output text"),
    # hashicorp/vault#8955
    (rb"\Avault:v\d{1,9}:", "a signature of HashiCorp Vault", "cut -d: -f3 removes what is before the base64"),
    # Azure/azure-sdk-for-go#16397, and JSON Web Tokens.
    (_is_base64url, "base64url", "to get base64, run tr _- /+ and add the padding = or =="),
    # openssl base64 without -A, and base64 without -w0.
    (_is_wrapped, "base64 wrapped into lines", encoding.UNWRAPPED),
    (_is_several, "several on one line", encoding.ONE_A_LINE),
    # What was encoded twice: aws kms sign, whose answer is base64 already.
    (lambda text: _decode(_decode_text(text)), "base64 of base64", "it was encoded twice"),
    (_decode_text, "base64 of text", "openssl base64 -d -A prints the text itself"),
]

_TEXT_OF_KEY = 'name a file with the key; in bash and zsh, <(printf %s "$KEY") is one for the text in a variable'

_NAMES_OF_KEYS = (
    ("-----BEGIN", _TEXT_OF_KEY),
    ("LS0tLS1CRUdJTi", _TEXT_OF_KEY),  # base64 of it
    ("MII", _TEXT_OF_KEY),  # base64 of DER
    ("arn:", "for a key in AWS KMS, write awskms:///ARN"),
    ("alias/", "for a key in AWS KMS, write awskms:///alias/NAME"),
    ("file:", "write the path alone, without file:"),
    ("~", "the shell replaces ~ with your home directory only if it is not quoted"),
    ("gcpkms:", "tok-exec signs with gcloud; see tok-recipes(7)"),
    ("azurekms:", "tok-exec signs with az; see tok-recipes(7)"),
    ("hashivault:", "tok-exec signs with vault; see tok-recipes(7)"),
    ("yubikey:", "a YubiKey has a pkcs11: URI; see tok-sign(1)"),
)
"""Beginnings of names of keys, as other tools have them, with a hint."""

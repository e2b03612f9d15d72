"""Kinds of text that people have in place of a key, a token file, a digest or a signature: name and hint of each.

No decision hangs on these names: what is wrong is known before, and this only says more about it.
"""

from __future__ import annotations

import binascii
import re

from toktools import encoding
from toktools.errors import ToktoolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Row = tuple[str, str, str, Callable[[bytes], object]]

_MAX_BYTES = 1 << 16
"""The part of a file that is looked at."""

_KEY, _FILE, _RECORD = "K", "F", "R"
"""The input that is needed: a key of any kind, a token file, or a digest or signature."""
_FILES, _NOT_KEY, _ANY = _KEY + _FILE, _FILE + _RECORD, _KEY + _FILE + _RECORD


def not_key(name: str, content: bytes, needed: str) -> ToktoolsError:
    """Return the error for a file without a key that can be read, and say what it is instead if that is known."""
    kind, hint = _identify(content, _KEY)
    return ToktoolsError(f"{name}: not a {needed} but {kind}" if kind else f"{name}: no {needed} can be read", hint)


def not_token_file(content: bytes) -> ToktoolsError | None:
    """Return the error for a file that is not JSON, if it is known what it is instead."""
    if content.lstrip()[:1] in {b"{", b"["}:
        return None  # damaged JSON: the parser says where
    kind, hint = _identify(content, _FILE)
    return ToktoolsError(f"{kind}, not a token file", hint) if kind else None


def not_base64(text: bytes) -> ToktoolsError:
    """Return the error for a line that is not the canonical base64 of a digest or a signature."""
    kind, hint = _identify(text, _RECORD)
    if kind:
        return _not_base64(kind, hint)
    if not text:
        return ToktoolsError("empty")
    if _is_raw(text):
        return ToktoolsError("raw bytes, not base64", "openssl base64 -A converts them to base64")
    if text != b"".join(text.split()):
        return ToktoolsError("white space in the base64", encoding.UNWRAPPED)
    if not _BASE64(text):
        return ToktoolsError("not base64")
    return ToktoolsError(
        "not canonical base64", "it is cut short, or its padding or last character is wrong (RFC 4648)"
    )


def not_one_signature(content: bytes) -> ToktoolsError | None:
    """Return the error for a text that is not the base64 of one signature, if it is known what it is instead."""
    if _is_raw(content) and not _is_utf16(content):
        return None  # a row might match by chance
    kind, hint = _identify(content.strip(), _RECORD)
    return _not_base64(kind, hint) if kind else None


def not_raw(text: bytes) -> ToktoolsError:
    """Return the error for a text in place of a digest in raw bytes."""
    kind, hint = _identify(text.strip(), _RECORD)
    if kind and _sizes(text) != {encoding.DIGEST_SIZE}:
        return ToktoolsError(f"{kind}, not raw bytes", hint)
    return ToktoolsError("base64 text, not raw bytes", "leave out -r, or decode it with openssl base64 -d -A")


def mistyped_key(text: str) -> str:
    """Return a hint if the name of a key looks like something else than the path of a file."""
    return next((hint for begin, hint in _KEY_NAMES if text.startswith(begin)), "")


def _not_base64(kind: str, hint: str) -> ToktoolsError:
    return ToktoolsError(kind if kind.startswith("base64 of ") else f"{kind}, not base64", hint)


def _identify(content: bytes, needed: str) -> tuple[str, str]:
    """Return the name of what *content* is in place of what is needed, and a hint; two empty strings if unknown."""
    content = content[:_MAX_BYTES]
    found = ((name, hint) for needs, name, hint, is_it in _ROWS if needed in needs and is_it(content))
    return next(found, ("", ""))


def _matches(pattern: bytes) -> Callable[[bytes], object]:
    return re.compile(pattern, re.MULTILINE | re.DOTALL).search


def _decode(content: bytes) -> bytes:
    """Return what a text is the base64 of, however wrapped, or nothing."""
    text = b"".join(content.split())
    try:
        return binascii.a2b_base64(text) if _BASE64(text) else b""
    except binascii.Error:
        return b""


def _decode_text(content: bytes) -> bytes:
    """Return the text that a text is the base64 of, without white space around it, or nothing."""
    decoded = _decode(content)
    return decoded.strip() if len(decoded) >= encoding.MIN_TEXT and encoding.is_text(decoded) else b""


def _is_several(text: bytes) -> bool:
    """Return whether there are several digests or signatures, with something between or only their padding."""
    for separated in (text, b"".join(text.split())):
        words = [word for word in re.split(rb"[=,;\s]+", separated) if word]
        if len(words) > 1 and {len(word) for word in words} in ({43}, {342}, {512}, {683}):
            return True
    return False


def _is_base64url(content: bytes) -> bool:
    text = b"".join(content.split())
    return _BASE64URL(text) is not None and not _BASE64(text)


def _sizes(content: bytes) -> set[int]:
    """Return the sizes of the records, if a file is nothing but lines of base64."""
    return {len(_decode(line)) for line in content.split()}


def _is_damaged_pem(content: bytes) -> bool:
    """Return whether a block of PEM has a body that is not base64."""
    bodies = [body.rpartition(b"\n\n")[2] for body in _BODY(content.replace(b"\r", b""))]
    return any(not _decode(body) for body in bodies)


def _is_raw(content: bytes) -> bool:
    """Return whether there are random bytes: so many of them are never UTF-8."""
    return len(content) >= encoding.MIN_TEXT and content.decode(errors="ignore").encode() != content


def _is_utf16(content: bytes) -> bool:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return len(content) > 1 and any(
        content[start::2].strip(b"\0") and not content[1 - start :: 2].strip(b"\0") for start in (0, 1)
    )


_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}").fullmatch
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]{32,}={0,2}").fullmatch
_BODY = re.compile(rb"^-----BEGIN [A-Z0-9 ]{1,40}-----\n([^-]*)\n-----END ", re.MULTILINE).findall
_LABEL = rb"(?:[A-Z0-9]{1,16} ){0,4}(?:KEY|CERTIFICATE)"
_BEGIN_OR_END = re.compile(rb"\b(?:BEGIN|END) " + _LABEL + rb"\b(?! BLOCK)").findall
_WHOLE_LINE = re.compile(rb"^-----(?:BEGIN|END) " + _LABEL + rb"-----[ \t]*\r?$", re.MULTILINE).findall
_HAS_BEGIN, _IS_TOKEN_FILE = (
    _matches(rb"BEGIN " + _LABEL),
    _matches(rb'\A\s*\{.*"(?:tokens?|unsigned|approval_data)"\s*:'),
)
_DECODE = "tr -d '\\r\\n' < FILE | openssl base64 -d -A decodes it"
_KEYS_GO = "tok-sign -k takes a private key, and -p of other commands a public key or a certificate"
_NOT_RAW = "tok-sign and tok-exec make the raw RSA signature that CloudHSM needs"

_ROWS: tuple[Row, ...] = (
    # Encodings of any text. PowerShell: anchore/syft#4916.
    (_ANY, "text in UTF-16", "PowerShell redirection (>) writes it; iconv -f UTF-16 -t UTF-8 converts it", _is_utf16),
    (
        _NOT_KEY,
        "a byte-order mark before the text",
        "Windows programs write it; tail -c +4 removes it",
        _matches(rb"\A\xef\xbb\xbf"),
    ),
    # Files in which secrets are kept.
    (
        _ANY,
        "a file encrypted with age",
        "age -d decrypts it",
        _matches(rb"\Aage-encryption\.org/|^-----BEGIN AGE ENCRYPTED FILE-----"),
    ),
    (
        _ANY,
        "a file encrypted with ansible-vault",
        "ansible-vault view FILE decrypts it",
        _matches(rb"\A\$ANSIBLE_VAULT;"),
    ),
    (_ANY, "a file encrypted with sops", "sops -d FILE decrypts it", _matches(rb"\bENC\[AES256_GCM,")),
    (_ANY, "a PGP message", "it is encrypted; gpg -d decrypts it", _matches(rb"^-----BEGIN PGP MESSAGE-----")),
    # Signatures in formats of their own: gpg(1), ssh-keygen(1), openssl-cms(1).
    (_ANY, "a PGP signature", _NOT_RAW, _matches(rb"^-----BEGIN PGP SIGNATURE-----")),
    (_ANY, "an SSH signature", _NOT_RAW, _matches(rb"^-----BEGIN SSH SIGNATURE-----")),
    (_RECORD, "a CMS or PKCS#7 signature", _NOT_RAW, _matches(rb"^-----BEGIN (?:CMS|PKCS7)-----")),
    (
        _FILES,
        "a PKCS#7 file",
        "openssl pkcs7 -in FILE -print_certs writes the certificates in it; for DER, with -inform DER",
        _matches(
            rb"^-----BEGIN (?:CMS|PKCS7)-----"
            rb"|\A\x30(?:\x80|\x81.|\x82..|\x83...)\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
        ),
    ),
    # Keys in formats that are not read. PuTTY: sshnet/SSH.NET#434, itchio/butler#8.
    (
        _ANY,
        "a key of PuTTY",
        "puttygen FILE -O private-openssh writes it in OpenSSH's format",
        _matches(rb"\APuTTY-User-Key-File-"),
    ),
    (
        _ANY,
        "a public key in the format of RFC 4716",
        "ssh-keygen -i -f FILE writes it as ssh-rsa ...",
        _matches(rb"^---- BEGIN SSH2 PUBLIC KEY"),
    ),
    (
        _ANY,
        "a certificate request",
        "openssl req -in FILE -pubkey -noout writes the public key in it",
        _matches(rb"^-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----"),
    ),
    # Keys that were damaged on their way through JSON, the environment (auth0/node-jsonwebtoken#191), or mail.
    (
        _KEY,
        "PEM inside JSON",
        "jq -r .NAME writes a JSON string without its quotes and backslashes",
        _matches(rb"\A\s*[{\[].*BEGIN " + _LABEL),
    ),
    (
        _KEY,
        "PEM with \\n instead of line ends",
        "awk '{gsub(/\\\\n/, \"\\n\")} 1' FILE converts them",
        _matches(rb"BEGIN " + _LABEL + rb"-----\s*\\(?:r\\)?\\?n"),
    ),
    (
        _KEY,
        "PEM in quoted-printable",
        "python3 -m quopri -d FILE decodes it, as does the mail program that saves the attachment",
        lambda content: _HAS_BEGIN(content) and re.search(rb"=(?:3D|0[AD])", content),
    ),
    (
        _KEY,
        "PEM with curly quotes or long dashes",
        "a word processor or mail program makes them; copy the file itself",
        lambda content: _HAS_BEGIN(content) and re.search(rb"\xe2\x80[\x90-\x9f]", content),
    ),
    (
        _KEY,
        "PEM with something before its lines",
        "sed 's/^[>[:blank:]]*//' FILE removes spaces and the > of a quoted mail",
        _matches(rb"^[ \t>|*]+-----BEGIN " + _LABEL + rb"-----"),
    ),
    (
        _KEY,
        "PEM with damaged BEGIN or END lines",
        "they need five hyphens before and after: -----BEGIN ... -----, -----END ... -----",
        lambda content: len(_BEGIN_OR_END(content)) > len(_WHOLE_LINE(content)),
    ),
    (
        _KEY,
        "PEM without its BEGIN or END line",
        "the file is cut short",
        lambda content: content.count(b"-----BEGIN ") != content.count(b"-----END "),
    ),
    (
        _KEY,
        "PEM whose body is damaged",
        "only base64 without spaces may be between the lines; copy the file again",
        _is_damaged_pem,
    ),
    # Kubernetes' and others' secrets: sigstore/cosign#1088.
    (_KEY, "base64 of PEM", _DECODE, lambda content: b"-BEGIN " in _decode(content)),
    (
        _KEY,
        "base64 without BEGIN and END lines",
        f"{_DECODE} to DER, which works too",
        lambda content: _decode(content).startswith((b"\x30\x81", b"\x30\x82")),
    ),
    # Each other's files, which are at hand at a login.
    (
        _KEY,
        "a token file",
        "it is an operand of tok-extract, tok-merge and tok-verify; -k and -p take keys",
        _IS_TOKEN_FILE,
    ),
    (_NOT_KEY, "a private key", _KEYS_GO, _matches(rb"^-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")),
    (_NOT_KEY, "a public key", _KEYS_GO, _matches(rb"^-----BEGIN [A-Z ]{0,40}PUBLIC KEY-----|\A\s*ssh-rsa AAAA")),
    (_NOT_KEY, "a certificate", _KEYS_GO, _matches(rb"^-----BEGIN CERTIFICATE-----\s*MII")),
    (_FILE, "a key or a certificate in DER", _KEYS_GO, _matches(rb"\A\x30[\x80-\x83]")),
    (_FILES, "digests", "tok-sign and tok-exec read them from standard input", lambda content: _sizes(content) == {32}),
    (
        _FILES,
        "signatures",
        "tok-merge takes them as SIGNATURE files, or from standard input",
        lambda content: _sizes(content) and _sizes(content) <= {*encoding.SIGNATURE_SIZES},
    ),
    (
        _FILES,
        "a raw digest",
        "tok-sign -r reads it from standard input",
        lambda content: len(content) == encoding.DIGEST_SIZE and not encoding.is_text(content),
    ),
    (
        _FILES,
        "a raw signature",
        "tok-merge takes signatures as SIGNATURE files",
        lambda content: len(content) in encoding.SIGNATURE_SIZES and not encoding.is_text(content),
    ),
    (_FILES, "base64 of a token file", _DECODE, lambda content: _IS_TOKEN_FILE(_decode(content))),
    # A login page, or GitHub's page around a file: jedisct1/minisign#24.
    (
        _FILES,
        "an HTML page",
        "it may be a login page instead of the file to download",
        _matches(rb"\A\s*<(?i:!doctype|html)"),
    ),
    # Digests and signatures as other tools print them: certutil, sha256sum, openssl dgst, od, xxd and runtimes' arrays.
    (
        _NOT_KEY,
        "text between BEGIN and END lines",
        "certutil -encode writes such lines, which grep -v -e ----- removes; in PEM they mean a key or a certificate",
        _matches(rb"^-----BEGIN "),
    ),
    (
        _RECORD,
        "bytes as decimal numbers",
        "encode the bytes themselves as base64",
        _matches(rb"\A(?=.*(?:,|\d{3}))\W*\d{1,3}(?:[,\s]{1,3}-?\d{1,3}){31,}\W*\Z"),
    ),
    (
        _ANY,
        "hexadecimal digits",
        "xxd -r -p converts them to bytes, openssl base64 -A those to base64",
        encoding.is_hexadecimal,
    ),
    (
        _RECORD,
        "a hexadecimal digest with words beside it",
        "sha256sum and openssl dgst print it; sign the digests that tok-extract writes",
        _matches(rb"\A\\?[0-9A-Fa-f]{64}\s|\s[0-9A-Fa-f]{64}\Z"),
    ),
    # JSON of the AWS CLI and of az: "Signature" and "signature".
    (
        _RECORD,
        "JSON with a signature",
        "aws kms sign --query Signature --output text and az keyvault key sign --query signature -o tsv write it alone",
        _matches(rb'\A\s*\{.*"[Ss]ignature"\s*:'),
    ),
    (
        _RECORD,
        "JSON",
        "tok-extract gets the digests from a token file, jq -r gets a string from other JSON",
        _matches(rb"\A\s*[{\[]"),
    ),
    (
        _RECORD,
        "text in quotes",
        "jq -r writes no quotes, and neither does the AWS CLI with --output text",
        _matches(rb"\A(?:[\"']|\xe2\x80[\x98-\x9f])"),
    ),
    (
        _RECORD,
        "text with backslashes",
        "jq -r writes a JSON string without them, and printf %b makes line feeds of \\n",
        lambda text: b"\\" in text and encoding.is_text(text),
    ),
    # hashicorp/vault#8955
    (
        _RECORD,
        "a signature of HashiCorp Vault",
        "cut -d: -f3 removes what is before the base64",
        _matches(rb"\Avault:v\d{1,9}:"),
    ),
    (
        _RECORD,
        "text of a quoted mail",
        "sed 's/^[>[:blank:]]*//' removes the > before each line",
        _matches(rb"\A>"),
    ),
    (_RECORD, "text in quoted-printable", "python3 -m quopri -d decodes it", _matches(rb"=3D")),
    # Azure/azure-sdk-for-go#16397, and JSON Web Tokens.
    (
        _RECORD,
        "base64url",
        "to get base64, run tr _- /+ and add the padding = or ==",
        _is_base64url,
    ),
    (
        _RECORD,
        "several in one line",
        encoding.ONE_A_LINE,
        _is_several,
    ),
    # What was encoded twice: aws kms sign, whose answer is base64 already.
    (
        _RECORD,
        "base64 of hexadecimal digits",
        "xxd -r -p | openssl base64 -A converts them to base64",
        lambda text: encoding.is_hexadecimal(_decode_text(text)),
    ),
    (_RECORD, "base64 of base64", "it was encoded twice", lambda text: _decode(_decode_text(text))),
    (_RECORD, "base64 of text", "the text itself is what openssl base64 -d -A prints", _decode_text),
)
"""The input that a row is for, the name, how to mend it, and how to know it; the special before the general.

If people were seen to confuse it, a comment names the issue.
"""

_KEY_NAMES = (
    ("arn:", "for a key in AWS KMS, write awskms:///ARN"),
    ("alias/", "for a key in AWS KMS, write awskms:///alias/NAME"),
    ("file:", "-k takes only the path, without file:"),
    ("~", "the shell replaces ~ with your home directory only if it is not quoted"),
    ("gcpkms:", "tok-exec signs with gcloud; see tok-recipes(7)"),
    ("azurekms:", "tok-exec signs with az; see tok-recipes(7)"),
    ("hashivault:", "tok-exec signs with vault; see tok-recipes(7)"),
    ("yubikey:", "a YubiKey has a pkcs11: URI; see tok-sign(1)"),
)
"""Beginnings of names of keys, as other tools have them, with a hint."""

"""What stands in a file where a key or a token file should: named by how it looks, with what makes the right file."""

from __future__ import annotations

import binascii
import re

from toktools.errors import ToktoolsError

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    Row = tuple[str, str, Callable[[bytes], object]]

_SHOWN = 1 << 16
"""Bytes from the beginning that are looked at."""
_DIGEST, _SIGNATURES = 32, (256, 384, 512)
_LABEL = rb"(?:[A-Z0-9]{1,16} ){0,4}(?:KEY|CERTIFICATE|REQUEST|PARAMETERS|PKCS7|CMS|CRL)"
_LINE = rb"^-----(?:BEGIN|END) " + _LABEL + rb"-----[ \t]*\r?$"


_ENDS, _WHOLE_LINES = re.compile(rb"\b(?:BEGIN|END) " + _LABEL + rb"\b"), re.compile(_LINE, re.MULTILINE)


def refuse(place: str, content: bytes, reason: str) -> ToktoolsError:
    """Say that there is no key in a file, and the name of what it is instead, where that is known."""
    kind, hint = key_like(content) or kind_of(content) or ("", "")
    return ToktoolsError(f"{place}: {reason}: {kind}" if kind else f"{place}: {reason}", hint)


def key_like(content: bytes) -> tuple[str, str] | None:
    """Name what was a key before it was damaged, or is one in a format that is not read, with a hint at the remedy."""
    return _named(content, _DAMAGED)


def kind_of(content: bytes) -> tuple[str, str] | None:
    """Name what is neither key nor token file, or is the other of the two, with a hint at its place."""
    return _named(content, _OTHERS)


def not_token_file(content: bytes) -> ToktoolsError | None:
    """Say what a file is that is no token file; or nothing where that is not known."""
    if content.lstrip()[:1] in (b"{", b"["):
        return None  # JSON that was damaged is told by the place where it is
    label = _is_pem(content[:_SHOWN])
    if label:
        return ToktoolsError(f"PEM with a {label[1].decode()}, not a token file", _KEY_PLACES)
    if key_like(content) or _named(content, _KEYS):
        return ToktoolsError("a key or a certificate, not a token file", _KEY_PLACES)
    found = kind_of(content)
    return found and ToktoolsError(f"{found[0]}, not a token file", found[1])


def _named(content: bytes, rows: tuple[Row, ...]) -> tuple[str, str] | None:
    content = content[:_SHOWN]
    return next(((name, hint) for name, hint, is_it in rows if is_it(content)), None)


def _has(pattern: bytes, flags: int = re.MULTILINE) -> Callable[[bytes], object]:
    return re.compile(pattern, flags).search


def _decoded(content: bytes) -> bytes:
    """Return what a text is the base64 of, or nothing."""
    try:
        text = b"".join(content.split())
        return binascii.a2b_base64(text) if _is_base64(text) else b""
    except binascii.Error:
        return b""


_is_base64 = _has(rb"\A[A-Za-z0-9+/]+={0,2}\Z", 0)


def _records(content: bytes) -> set[int]:
    """Return the sizes of the records, if a file is nothing but lines of base64."""
    return {len(_decoded(line)) for line in content.split()} if content.strip() else set()


def _blocks(content: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return of each block of PEM its label at the beginning, its body without headers, and its label at the end."""
    return [
        (begin, body.rpartition(b"\n\n")[2] if b":" in body else body, end)
        for begin, body, end in _BLOCK.findall(content.replace(b"\r\n", b"\n"))
    ]


def _is_damaged(body: bytes) -> bool:
    """Say whether a body of PEM is no base64: a character too many, too few or another one."""
    text = b"".join(body.split())
    return b" " in body.strip() or not _is_base64(text) or len(text) % 4 != 0


_BLOCK = re.compile(rb"^-----BEGIN ([A-Z0-9 ]{1,40})-----\n([^-]*)\n-----END ([A-Z0-9 ]{1,40})-----", re.MULTILINE)
_is_pem = re.compile(rb"^-----BEGIN (" + _LABEL + rb")-----", re.MULTILINE).search
_DECODE = "tr -d '\\r\\n' < FILE | openssl base64 -d -A"
_KEY_PLACES = "tok-sign -k takes a private key, and -p of other commands a public key or a certificate"
_has_label, _has_escape = _has(rb"BEGIN " + _LABEL), _has(rb"=(?:3D|0[AD])")
_is_text = _has(rb"\A[\t\r\n -~]*\Z", 0)
_is_der = _has(rb"\A\x30[\x80-\x83]", re.DOTALL)
_is_token_file = _has(rb'\A\s*\{.*"(?:tokens|token|unsigned|approval_data|Digest)"\s*:', re.DOTALL)

_KEYS: tuple[Row, ...] = (
    ("PEM", "", _has(_LINE)),
    ("DER", "", _is_der),
    ("a public key of OpenSSH", "", _has(rb"\A\s*(?:ssh|ecdsa|sk|webauthn)-[a-z0-9@.-]+ AAAA")),
)
"""What a key looks like that is as it should be."""

_DAMAGED: tuple[Row, ...] = (
    (
        "PEM in UTF-16",
        "PowerShell redirection (>) writes UTF-16; iconv -f UTF-16 -t UTF-8 converts it",
        lambda content: b"\0" in content[:4] and b"BEGIN " in content.replace(b"\0", b""),
    ),
    (
        "a public key in the format of RFC 4716",
        "ssh-keygen -i -f FILE writes it as ssh-rsa ...",
        _has(rb"^[ \t]*---- BEGIN SSH2 PUBLIC KEY"),
    ),
    (
        "a private key in the format of RFC 4716",
        "ssh-keygen -i -f FILE writes it in OpenSSH's format",
        _has(rb"^[ \t]*---- BEGIN SSH2 ENCRYPTED PRIVATE KEY"),
    ),
    (
        "a key of PuTTY",
        "puttygen FILE -O private-openssh writes it in OpenSSH's format",
        _has(rb"\APuTTY-User-Key-File-"),
    ),
    ("a key of PGP", "gpg keeps it; see gpg-agent in tok-recipes(7)", _has(rb"^-+BEGIN PGP ")),
    ("a key of age", "it cannot sign", _has(rb"^AGE-SECRET-KEY-|^age1[a-z0-9]{58}\s*$")),
    (
        "a Java keystore",
        "keytool -importkeystore -deststoretype PKCS12 converts it to PKCS#12",
        _has(rb"\A\xfe\xed\xfe\xed"),
    ),
    ("a key in JSON Web Key format", "convert it to PEM", _has(rb'\A\s*\{.*"kty"\s*:', re.DOTALL)),
    ("a key in XML", "convert it to PEM", _has(rb"\A\s*<RSAKeyValue")),
    (
        "PEM inside JSON",
        "jq -r .NAME writes a JSON string without its quotes and backslashes",
        _has(rb"\A\s*[{\[].*BEGIN " + _LABEL, re.DOTALL),
    ),
    (
        "PEM with \\n instead of line ends",
        "awk '{gsub(/\\\\n/, \"\\n\")} 1' FILE converts them",
        _has(rb"BEGIN " + _LABEL + rb"-----\s*\\(?:r\\)?\\?n"),
    ),
    (
        "PEM in quoted-printable",
        "python3 -m quopri -d FILE decodes it, as does the mail program that saves the attachment",
        lambda content: _has_label(content) and _has_escape(content),
    ),
    (
        "PEM in percent-encoding",
        "%20 is a space, %0A a line end, %2B is +, %2F is / and %3D is =",
        _has(rb"BEGIN(?:%20|\+)[A-Z0-9]"),
    ),
    (
        "PEM with something before its lines",
        "sed 's/^[>[:blank:]]*//' FILE removes spaces and the > of a quoted mail",
        _has(rb"^[ \t>|*]+-----BEGIN " + _LABEL + rb"-----"),
    ),
    (
        "PEM with damaged BEGIN or END lines",
        "they need five hyphens before and after: -----BEGIN ... -----, -----END ... -----",
        lambda content: len(_ENDS.findall(content)) > len(_WHOLE_LINES.findall(content)),
    ),
    (
        "PEM without its END line",
        "the file is cut short",
        lambda content: content.count(b"-----BEGIN ") > content.count(b"-----END "),
    ),
    (
        "PEM without its BEGIN line",
        "the file is cut short",
        lambda content: content.count(b"-----END ") > content.count(b"-----BEGIN "),
    ),
    (
        "PEM with lines for BEGIN and END in small letters",
        "write them in capitals: -----BEGIN ... -----, -----END ... -----",
        _has(rb"^-----begin [a-z0-9 ]{1,40}-----"),
    ),
    (
        "PEM whose BEGIN and END lines do not match",
        "they must have the same words; one of them belongs to another file",
        lambda content: any(begin != end for begin, _, end in _blocks(content)),
    ),
    (
        "PEM whose body is damaged",
        "only base64 without spaces may be between the lines; copy the file again",
        lambda content: any(_is_damaged(body) for _, body, _ in _blocks(content)),
    ),
    (
        "base64 of PEM",
        f"{_DECODE} converts it to PEM",
        lambda content: b"-BEGIN " in _decoded(content),
    ),
    (
        "base64 without BEGIN and END lines",
        f"{_DECODE} converts it to DER, which works too",
        lambda content: _is_der(_decoded(content)),
    ),
    (
        "hexadecimal digits of DER",
        "xxd -r -p converts them to DER, which works too",
        _has(rb"\A\s*(?:0x)?30[:\s]?8[0-3][0-9A-Fa-f:\s]{32,}\Z"),
    ),
)
"""What people have in the place of a key, the likely first."""

_OTHERS: tuple[Row, ...] = (
    ("a token file", "it is an operand of tok-extract, tok-merge and tok-verify; -k and -p take keys", _is_token_file),
    ("a text in UTF-16", "iconv -f UTF-16 -t UTF-8 converts it", _has(rb"\A(?:\xff\xfe|\xfe\xff)")),
    ("digests", "tok-sign and tok-exec read them from standard input", lambda content: _records(content) == {_DIGEST}),
    (
        "signatures",
        "tok-merge takes them as SIGNATURE files, or from standard input",
        lambda content: bool(_records(content)) and _records(content) <= set(_SIGNATURES),
    ),
    (
        "a raw digest",
        "tok-sign -r reads it from standard input",
        lambda c: len(c) == _DIGEST and not _is_text(c) and not _is_der(c),
    ),
    (
        "raw bytes of the size of a signature",
        "tok-merge takes signatures as SIGNATURE files",
        lambda content: len(content) in _SIGNATURES and not _is_der(content) and not _is_text(content),
    ),
    ("base64 of a token file", f"{_DECODE} decodes it", lambda c: _is_token_file(_decoded(c))),
    (
        "an HTML page",
        "it may be a login page instead of the file to download",
        _has(rb"\A\s*<(?i:!doctype|html)"),
    ),
    ("a zip archive", "unzip extracts the file", _has(rb"\APK\x03\x04")),
    ("a gzip file", "gunzip unpacks it", _has(rb"\A\x1f\x8b")),
)
"""Other files that are at hand at a login."""

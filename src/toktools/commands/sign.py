"""tok-sign: sign digests with a key from a file or on a token."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools import encoding, files, pipeline, records
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import CommandLine, Option, jobs
from toktools.passphrases import PASSIN

COMMAND_LINE = CommandLine(
    "tok-sign",
    "Sign SHA-256 digests with an RSA key, one signature a line for each digest.",
    "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json",
    Option("-k", "KEY", "the RSA private key: a file, or a pkcs11: URI", also="--key", required=True),
    PASSIN,
    Option(
        "-j", "N", "sign with up to N threads at once", also="--jobs", convert=jobs, default=pipeline.usable_cores()
    ),
    Option("-r", "", "sign one digest of 32 raw bytes, and write the signature raw", also="--raw"),
)


def _work(options: SimpleNamespace) -> int:
    if options.r:
        files.refuse_terminal()
    from toktools import keys, signatures

    key, warnings = keys.private(options.k, options.passin)
    for warning in warnings:
        TOOL.warn(warning)
    sign = signatures.signer(key)
    if options.r:
        files.write_stdout(sign(_raw_digest()))
        return 0
    # A token, and the person beside it, is asked for one thing at a time.
    at_once = options.j if isinstance(key, signatures.PrivateKey) else 1
    quick = at_once == 1 or key.public_key().key_size <= keys.DOCUMENTED_BITS
    pipeline.sign_stream(sign, at_once, quick=quick)
    return 0


def _raw_digest() -> bytes:
    try:
        return encoding.raw_digest(files.read(None, records.MAX_LINE).content)
    except ToktoolsError as error:
        raise error.at(files.STDIN_NAME) from None


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-sign."""
    return TOOL.run(argv)

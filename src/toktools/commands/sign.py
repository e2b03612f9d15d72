"""tok-sign: sign digests with a key from a file or on a token."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools import encoding, keys
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.keys import pipeline, records
from toktools.options import PASSIN, CommandLine, Option, jobs
from toktools.system import files

COMMAND_LINE = CommandLine(
    "tok-sign",
    "Sign SHA-256 digests with an RSA key, one signature a line for each digest.",
    "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json",
    keys.KEY,
    PASSIN,
    Option("-j", "N", "sign with up to N threads at once", also="--jobs", convert=jobs),
    Option("-r", "", "sign one digest of 32 raw bytes, and write the signature raw", also="--raw"),
)


def _work(options: SimpleNamespace) -> int:
    if options.r:
        files.refuse_terminal()
    signer = keys.open_signer(options.k, options.passin, TOOL.warn)
    TOOL.tell_typist("32 raw bytes" if options.r else "digests")
    if options.r:
        files.write_stdout(signer.sign(_raw_digest()))
    else:
        at_once, quick = signer.pace(options.j)
        pipeline.sign_stream(signer.sign, at_once, quick=quick, progress=TOOL.progress("signed"))
    signer.close()
    return 0


def _raw_digest() -> bytes:
    try:
        return encoding.raw_digest(files.read(None, records.MAX_LINE).content)
    except ToktoolsError as error:
        raise error.at(files.STDIN_NAME) from None


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-sign."""
    return TOOL.run(argv)

"""tok-sign: sign digests with a key from a file or on a token."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools import encoding, files, keys, pipeline, records
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import CommandLine, Option, jobs
from toktools.passphrases import PASSIN

COMMAND_LINE = CommandLine(
    "tok-sign",
    "Sign SHA-256 digests with an RSA key, one signature a line for each digest.",
    "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json",
    keys.KEY,
    PASSIN,
    Option("-j", "N", "sign with up to N threads at once", convert=jobs),
    Option("-r", "", "sign one digest of 32 raw bytes, and write the signature raw"),
)


def _work(options: SimpleNamespace) -> int:
    if options.r:
        files.refuse_terminal()
    signer = keys.open_signer(options.k, options.passin, TOOL.warn)
    if options.r:
        files.write_stdout(signer.sign(_raw_digest()))
    else:
        at_once, quick = signer.pace(options.j)
        pipeline.sign_stream(signer.sign, at_once, quick=quick)
    signer.close()
    return 0


def _raw_digest() -> bytes:
    content = files.read(None, records.MAX_LINE).content
    if len(content) != encoding.DIGEST_SIZE:
        hint = "this is base64 text: leave out -r, or decode it with base64 -d" if _is_text(content) else ""
        raise ToktoolsError(
            f"{files.STDIN_NAME}: {encoding.size(len(content))}, but a raw SHA-256 digest has {encoding.DIGEST_SIZE}",
            hint,
        )
    return content


def _is_text(content: bytes) -> bool:
    try:
        encoding.digest(content.strip())
    except ToktoolsError:
        return False
    return True


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-sign."""
    return TOOL.run(argv)

"""tok-sign: sign digests with a key from a file or on a token."""

from __future__ import annotations

from toktools.errors import ToktoolsError
from toktools.options import add_jobs_option, add_key_option, add_source_option, add_verbose_option, refuse_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from toktools.cli import Console

PURPOSE = "Sign SHA-256 digests with an RSA key, one signature a line for each digest."
EXAMPLE = "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_key_option(parser, required=True)
    add_source_option(parser, "--passin", "the pass phrase or PIN")
    add_jobs_option(parser, "sign with up to N threads at once")
    parser.add_argument(
        "-r", "--raw", action="store_true", help="sign one digest of 32 raw bytes, and write the signature raw"
    )
    parser.add_argument("--public-key", action="store_true", help="write the public key of KEY in PEM; sign nothing")
    add_verbose_option(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Sign the digests on standard input, or write the public key."""
    if options.public_key:
        refuse_flags(options, "cannot be used with --public-key", "-r", "-j")
    from toktools import keys
    from toktools.keys import stream
    from toktools.system import files

    if options.raw:
        files.refuse_terminal()
    signer = keys.open_signer(options.key, options.passin, console.warn)
    if options.public_key:
        from toktools.keys.files import pem

        files.write_stdout(pem(signer.public_key).encode())  # type: ignore[arg-type] # it is known, but for a command
        return 0
    console.note_reading_from_terminal("32 raw bytes" if options.raw else "digests")
    if options.raw:
        files.write_stdout(signer.sign(_raw_digest()))
    else:
        jobs = signer.max_parallel(options.jobs)
        stream.sign_stream(signer.sign, jobs, quick=signer.is_quick, progress=console.progress("signed"))
    return 0


def _raw_digest() -> bytes:
    from toktools import records
    from toktools.keys.stream import MAX_LINE_BYTES
    from toktools.system import files

    content = files.read(None, MAX_LINE_BYTES).content
    try:
        return records.raw_digest(content)
    except ToktoolsError as error:
        raise error.at(files.STDIN_NAME) from None

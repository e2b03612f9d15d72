"""tok-exec: sign digests with any command."""

from __future__ import annotations

from toktools.errors import ToktoolsError
from toktools.options import add_base64_option, add_jobs_option, add_verbose_option, add_verify_key_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from toktools.cli import Console

PURPOSE = "Sign SHA-256 digests with any command, run once for each digest."
EXAMPLE = "tok-extract f.json | tok-exec -p mine.pub -- ./signer | tok-merge -i f.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options and operands."""
    add_base64_option(parser, "command")
    add_verify_key_option(parser, "verify each signature with this key before writing it")
    parser.add_argument(
        "--approval-data",
        metavar="FILE",
        help="feed it the approval data of this file, not the digest",
    )
    add_jobs_option(parser, "run up to N commands at once")
    add_verbose_option(parser)
    parser.add_argument("command", metavar="COMMAND", help="the signer; {} in an argument names a file to sign")
    parser.add_argument("arguments", metavar="ARG", nargs="...", help="the arguments of the signer")


def run(options: argparse.Namespace, console: Console) -> int:
    """Sign the digests on standard input, and write the signatures to standard output."""
    from toktools import keys
    from toktools.keys import stream
    from toktools.keys.command import Command
    from toktools.system import process

    console.note_reading_from_terminal("digests")
    approval_data = _approval_data(options.approval_data)
    public_key = None if options.verify_key is None else keys.read_public_key(options.verify_key, console.warn)
    command = Command(
        [options.command, *options.arguments],
        base64=options.base64,
        public_key=public_key,
        approval_data=approval_data,
    )
    sign = command.sign if public_key else _measured(command.sign, console)
    with process.unwind_on_signals():
        try:
            stream.sign_stream(sign, options.jobs or 1, progress=console.progress("signed"))
        finally:
            command.close()
    return 0


def _approval_data(path: str | None) -> dict[bytes, bytes] | None:
    """Return the approval data of each token in a file, by its digest."""
    if path is None:
        return None
    if path == "-":
        raise ToktoolsError("--approval-data: standard input has the digests")
    from toktools.tokens import tokenfile

    source, tokens = tokenfile.read(path)
    try:
        return {tokens.digest(index): tokens.approval_data(index) for index in range(len(tokens))}
    except ToktoolsError as error:
        raise error.at(source.name) from None


def _measured(sign: Callable[[bytes], bytes], console: Console) -> Callable[[bytes], bytes]:
    """Warn once of each size that AWS does not document, since nobody verifies the signatures."""
    from toktools import encoding

    sizes = {encoding.SIGNATURE_SIZES[0]}

    def sign_and_measure(digest: bytes) -> bytes:
        signature = sign(digest)
        if len(signature) not in sizes:
            sizes.add(len(signature))
            console.warn(encoding.undocumented_size(len(signature)))
        return signature

    return sign_and_measure

"""tok-exec: sign digests with any command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from toktools import encoding
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.keys import pipeline
from toktools.options import CommandLine, Operand, Option, jobs
from toktools.system import process

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.signatures import PublicKey

COMMAND_LINE = CommandLine(
    "tok-exec",
    "Sign SHA-256 digests with any command, run once for each digest.",
    "tok-extract f.json | tok-exec -p officer1.pub -- ./signer | tok-merge -i f.json",
    Option("-b", "", "the command writes base64, not raw bytes", also="--base64"),
    Option("-p", "PUB", "verify each signature with this key before writing it", also="--verify-key"),
    Option("--approval-data", "FILE", "feed the command the approval data from this token file, not the digest"),
    Option("-j", "N", "run up to N commands at once", also="--jobs", convert=jobs),
    Operand(
        "COMMAND",
        "the signer; {} in an argument becomes the name of a file with its input",
        command=True,
        usage="-- COMMAND [ARG...]",
    ),
)


def _work(options: SimpleNamespace) -> int:
    from toktools.keys.command import Command

    TOOL.tell_typist("digests")
    hashed = _hashed(options.approval_data)
    command = Command(options.COMMAND, base64=options.b, public=_public(options.p), hashed=hashed)
    sign = command.sign if options.p else _measured(command.sign)
    # Whatever ends this process, no command is left behind.
    with process.unwind_on_signals():
        try:
            at_once, quick = command.pace(options.j)
            pipeline.sign_stream(sign, at_once, quick=quick, progress=TOOL.progress("signed"))
        except BaseException:
            command.stop()
            raise
        command.close()
    return 0


def _hashed(path: str | None) -> dict[bytes, bytes] | None:
    """Return by its digest what was hashed, of each token in a file."""
    if path is None:
        return None
    if path == "-":
        raise ToktoolsError("--approval-data: standard input has the digests")
    from toktools.tokens import tokenfile

    source, tokens = tokenfile.read(path)
    return dict(zip(tokens.digests, tokens.hashed(source.name)))


def _public(path: str | None) -> PublicKey | None:
    if path is None:
        return None
    from toktools.keys import public

    return public.read(path)


def _measured(sign: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Warn once of each size that AWS does not document, since nobody verifies the signatures."""
    sizes = {encoding.SIGNATURE_SIZES[0]}

    def sign_and_measure(digest: bytes) -> bytes:
        signature = sign(digest)
        if len(signature) not in sizes:
            sizes.add(len(signature))
            TOOL.warn(encoding.undocumented_size(len(signature)))
        return signature

    return sign_and_measure


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)  # -p takes a private key too


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-exec."""
    return TOOL.run(argv)

"""tok-extract: write the digests of a token file."""

from __future__ import annotations

from collections.abc import Sequence

from toktools import cli, files, records
from toktools.errors import ToktoolsError


def _add_options(parser: cli.Parser) -> None:
    from toktools.options import Selection  # noqa: PLC0415 - with argparse, after the signals are set

    parser.add_argument(
        "-n", metavar="LIST", type=Selection, default="1-", help="only the tokens of this list, counted from 1"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("-r", action="store_true", help="write one digest as 32 raw bytes")
    form.add_argument("-s", metavar="PREFIX", help="write each digest raw into a file: PREFIX1.bin, PREFIX2.bin, ...")
    parser.add_argument("FILE", nargs="?", help="the token file, by default standard input")


def _work(options: cli.Namespace) -> int:
    from toktools import tokenfile  # noqa: PLC0415 - heavy, and needed only once the options are right

    source, tokens = tokenfile.read(options.FILE)
    chosen = options.n.indices(len(tokens.digests))
    if options.s is not None:
        width = len(str(len(tokens.digests)))
        files.replace({f"{options.s}{index + 1:0{width}}.bin": tokens.digests[index] for index in chosen})
        return 0
    if not options.r:
        files.write_stdout(b"".join(records.line(tokens.digests[index]) for index in chosen))
        return 0
    if len(chosen) != 1:
        raise ToktoolsError(f"{source.name}: -r writes one digest, not {len(chosen)}", "choose one with -n")
    files.refuse_terminal()
    files.write_stdout(tokens.digests[chosen[0]])
    return 0


TOOL = cli.Tool(
    name="tok-extract",
    purpose="Write the digests of a CloudHSM token file, one a line in base64.",
    example="tok-extract f.json | tok-sign -k officer1.key | tok-merge -o signed.json f.json",
    add_options=_add_options,
    work=_work,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-extract."""
    return TOOL.run(argv)

"""tok-extract: write the digests of a token file."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools import files, records
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import TOKENS, CommandLine, Operand, Option

COMMAND_LINE = CommandLine(
    "tok-extract",
    "Write the digests of a CloudHSM token file, one a line in base64.",
    "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json",
    TOKENS,
    (
        Option("-r", "", "write one digest as 32 raw bytes", also="--raw"),
        Option("-s", "PREFIX", "write each digest raw into a file: PREFIX1.bin, ...", also="--split"),
    ),
    Operand("FILE", "the token file, by default standard input"),
)


def _work(options: SimpleNamespace) -> int:
    from toktools import tokenfile

    source, tokens = tokenfile.read(options.FILE)
    chosen = options.n.indices(len(tokens.digests))
    if options.s is not None:
        width = len(str(len(tokens.digests)))
        files.replace(
            {f"{options.s}{index + 1:0{width}}.bin": tokens.digests[index] for index in chosen}, keep=[source.status]
        )
        return 0
    if not options.r:
        files.write_stdout(b"".join(records.line(tokens.digests[index]) for index in chosen))
        return 0
    if len(chosen) != 1:
        raise ToktoolsError(f"{source.name}: -r writes one digest, not {len(chosen)}", "choose one with -n")
    files.refuse_terminal()
    files.write_stdout(tokens.digests[chosen[0]])
    return 0


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-extract."""
    return TOOL.run(argv)

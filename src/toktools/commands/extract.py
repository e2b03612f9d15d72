"""tok-extract: write the digests of a token file."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools.cli import Tool
from toktools.encoding import DIGEST_SIZE
from toktools.errors import ToktoolsError
from toktools.keys import records
from toktools.options import TOKENS, CommandLine, Operand, Option
from toktools.system import files

COMMAND_LINE = CommandLine(
    "tok-extract",
    "Write the digests of a CloudHSM token file, one a line in base64.",
    "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json",
    TOKENS,
    (
        Option("-r", "", "write one digest as 32 raw bytes", also="--raw"),
        Option("-s", "PREFIX", "write each digest as raw bytes to a file: PREFIX1.bin, ...", also="--split"),
    ),
    Option("--approval-data", "", "write the approval data, for signers that always hash"),
    Operand("FILE", "a token file; the default is standard input", many=True),
)


def _work(options: SimpleNamespace) -> int:
    from toktools.tokens import tokenfile

    if "-" in (options.FILE or "-"):
        TOOL.tell_typist("a token file")
    files.refuse_stdin_twice(options.FILE)
    sources = [tokenfile.read(path) for path in options.FILE or [None]]
    contents: list[bytes] = []
    chosen: list[int] = []
    for source, tokens in sources:
        hashed = tokens.hashed(source.name) if options.approval_data else tokens.digests
        try:
            chosen += [len(contents) + index for index in options.n.indices(len(hashed))]
        except ToktoolsError as error:
            raise error.at(source.name) if len(sources) > 1 else error from None
        contents += hashed
    if options.s is not None:
        from toktools.system.atomic import write_atomically

        width = len(str(len(contents)))
        named = {f"{options.s}{index + 1:0{width}}.bin": contents[index] for index in chosen}
        # A key in any form is longer than a digest.
        sizes = {len(content) for content in named.values()}
        inputs = [path for path in options.FILE if path != "-"]
        write_atomically(named, inputs=inputs, may_replace=lambda old: len(old) <= DIGEST_SIZE or len(old) in sizes)
        return 0
    if not options.r:
        files.write_lines(records.line(contents[index]) for index in chosen)
        return 0
    if len(chosen) != 1:
        if len(sources) > 1:
            raise ToktoolsError("-r writes one digest, so it takes one file")
        raise ToktoolsError(f"{sources[0][0].name}: -r writes one digest, not {len(chosen)}", "choose one with -n")
    files.refuse_terminal()
    files.write_stdout(contents[chosen[0]])
    return 0


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-extract."""
    return TOOL.run(argv)

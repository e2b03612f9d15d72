"""tok-inspect: say what a token file is, and what is signed in it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools.cli import Tool
from toktools.options import CommandLine, Operand, Option
from toktools.system import files

COMMAND_LINE = CommandLine(
    "tok-inspect",
    "Show what a CloudHSM token file is, and what is signed in it.",
    "tok-inspect unsigned-tokens.json",
    Option("--json", "", "write a JSON object for each file, for scripts"),
    Option("--hex", "", "also write digests in hexadecimal"),
    Operand("FILE", "a token file; the default is standard input", many=True),
)


def _work(options: SimpleNamespace) -> int:
    from toktools.tokens import describe, jsonfile, tokenfile

    for source, tokens in TOOL.each(options.FILE, tokenfile.inspect):
        if options.json:
            facts = {"file": source.path, **describe.facts(tokens)}
            files.write_lines(jsonfile.iterate_ascii(facts, None if len(options.FILE) > 1 else 2))
        else:
            files.write_lines(describe.lines(source.name, tokens, hexadecimal=options.hex))
    return 0


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-inspect."""
    return TOOL.run(argv)

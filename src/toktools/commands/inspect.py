"""tok-inspect: say what a token file is, and what is signed in it."""

from __future__ import annotations

from toktools.system import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from toktools.cli import Console

PURPOSE = "Show what a CloudHSM token file is, and what is signed in it."
EXAMPLE = "tok-inspect unsigned-tokens.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options and operands."""
    parser.add_argument("--json", action="store_true", help="write a JSON object for each file, for scripts")
    parser.add_argument("--hex", action="store_true", help="also write digests in hexadecimal")
    parser.add_argument("files", metavar="FILE", nargs="*", help="a token file; the default is standard input")


def run(options: argparse.Namespace, console: Console) -> int:
    """Describe each file."""
    from toktools.tokens import describe, jsonfile, tokenfile

    for source, tokens in console.each(options.files, tokenfile.inspect):
        if options.json:
            facts = {"file": source.path, **describe.facts(tokens)}
            files.write_lines(jsonfile.iterate_ascii(facts, None if len(options.files) > 1 else 2))
        else:
            files.write_lines(describe.lines(source.name, tokens, hexadecimal=options.hex))
    return 0

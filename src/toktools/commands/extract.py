"""tok-extract: write the digests of a token file."""

from __future__ import annotations

import os

from toktools.errors import ToktoolsError
from toktools.options import add_tokens_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from toktools.cli import Console

PURPOSE = "Write the digests of a CloudHSM token file, one a line in base64."
EXAMPLE = "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options and operands."""
    add_tokens_option(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-r", "--raw", action="store_true", help="write one digest as 32 raw bytes")
    group.add_argument(
        "-s", "--split", metavar="PREFIX", help="write each digest as raw bytes to a file: PREFIX1.bin, ..."
    )
    parser.add_argument(
        "--approval-data", action="store_true", help="write the approval data, for signers that always hash"
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="a token file; the default is standard input")


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the digests, or the approval data, of the chosen tokens."""
    from toktools import encoding
    from toktools.system import files
    from toktools.tokens import tokenfile

    if "-" in (options.files or "-"):
        console.note_reading_from_terminal("a token file")
    files.refuse_stdin_twice(options.files)
    sources = [tokenfile.read(path) for path in options.files or [None]]
    contents: list[bytes] = []
    chosen: list[int] = []
    for source, tokens in sources:
        try:
            found = list(map(tokens.approval_data, range(len(tokens)))) if options.approval_data else tokens.digests
            chosen += [len(contents) + index for index in options.tokens.indices(len(found))]
        except ToktoolsError as error:
            raise error.at(source.name) from None
        contents += found
    if options.split is not None:
        width = len(str(len(contents)))
        named = {f"{options.split}{index + 1:0{width}}.bin": contents[index] for index in chosen}
        _write_files(named, [path for path in options.files if path != "-"])
    elif options.raw:
        if len(chosen) != 1:
            names = ", ".join(source.name for source, _ in sources)
            raise ToktoolsError(
                f"{names}: -r writes one digest, not {len(chosen)}", "choose one with -n, from one file"
            )
        files.refuse_terminal()
        files.write_stdout(contents[chosen[0]])
    else:
        files.write_lines(encoding.line(contents[index]) for index in chosen)
    return 0


def _write_files(named: Mapping[str, bytes], inputs: Sequence[str]) -> None:
    """Write each content to the file of that name, one after the other. Nothing is written if one is refused."""
    from toktools import encoding
    from toktools.system import atomic

    # A key in any form is longer than a digest.
    sizes = {*range(encoding.DIGEST_SIZE + 1), *map(len, named.values())}
    paths = [os.path.realpath(path) for path in named]
    if len(set(paths)) < len(paths):
        raise ToktoolsError("two of the files to write are links to the same file")
    for path in named:
        atomic.check(path, inputs, lambda old: len(old) in sizes)
    for number, (path, content) in enumerate(named.items()):
        try:
            atomic.write_atomically(path, [content], inputs=inputs, may_replace=lambda old: len(old) in sizes)
        except ToktoolsError as error:
            raise (error.also("the files before it are written") if number else error) from None

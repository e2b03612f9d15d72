"""tok-verify: check every signature in a token file."""

from __future__ import annotations

from functools import cache, partial

from toktools.errors import ToktoolsError
from toktools.options import add_verify_key_option, number
from toktools.system import files
from toktools.tokens import approvals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from toktools.cli import Console
    from toktools.tokens.tokenfile import TokenFile
    from toktools.tokens.verify import Results

PURPOSE = "Check every signature in a CloudHSM token file."
EXAMPLE = "tok-verify -p officer1.pub signed-tokens.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options and operands."""
    add_verify_key_option(
        parser, "the key that should have signed; USER=PUB: that of USER", several=True, required=True
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="write only the lines that are not OK")
    group.add_argument("--json", action="store_true", help="write a JSON object for each file, for scripts")
    parser.add_argument(
        "--need",
        metavar="M",
        type=partial(number, "--need", high=approvals.MAX_APPROVERS),
        help="require the approvals of M approvers in a quorum token",
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="a token file; the default is standard input")


def run(options: argparse.Namespace, console: Console) -> int:
    """Write for every token whether its signature is good."""
    from toktools.keys import read_public_key
    from toktools.tokens import jsonfile, tokenfile, verify

    read_key = cache(partial(read_public_key, warn=console.warn))  # a key may come from a pipe

    def read(path: str | None) -> tuple[files.Snapshot, TokenFile]:
        source, tokens = tokenfile.read(path)
        if options.need and not tokens.kind.has_approvals:
            raise ToktoolsError(f"{source.name}: --need is for a quorum token, and this is {tokens.kind}")
        try:
            # A name that no user can have could be a second name of an approver, who would count twice.
            for approval in tokens.approvals if options.need else ():
                approval.check()
        except ToktoolsError as error:
            raise error.at(source.name) from None
        return source, tokens

    status = 0
    for source, tokens in console.each(options.files, read):
        keys = verify.verify_keys(options.verify_key, tokens, source.name, read_key)
        results = list(verify.check_all(tokens, keys, options.need))
        if options.json:
            facts = _facts(source, tokens, results)
            files.write_lines(jsonfile.iterate_ascii(facts, None if len(options.files) > 1 else 2))
        else:
            files.write_lines(_lines(source.name, results, quiet=options.quiet))
        status = max(status, any(problem for _, problem in results))
    return status


def _lines(name: str, results: Results, *, quiet: bool) -> Iterator[bytes]:
    from toktools.system.terminal import GREEN, RED, coloured

    good, failed = coloured(files.STDOUT, "OK", GREEN), coloured(files.STDOUT, "FAILED", RED)
    for slot, problem in results:
        if problem or not quiet:
            yield f"{name}: {slot}: {f'{failed}: {problem}' if problem else good}\n".encode()


def _facts(source: files.Snapshot, tokens: TokenFile, results: Results) -> dict[str, object]:
    """Return what --json writes. Scripts rely on it: members may be added, but none is renamed."""
    return {
        "file": source.path,
        "kind": tokens.kind.name,
        "ok": not any(problem for _, problem in results),
        "key": None,
        "signatures": [_Facts(result) for result in results],
    }


class _Facts:
    """The JSON of a signature; the dictionaries of a large file would be much memory at once."""

    __slots__ = ("_result",)

    def __init__(self, result: tuple[str, str]) -> None:
        self._result = result

    def __call__(self) -> dict[str, object]:
        slot, problem = self._result
        return {"of": slot, "ok": not problem, "fault": problem or None}

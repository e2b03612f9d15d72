"""tok-verify: check every signature in a token file."""

from __future__ import annotations

from functools import partial

from toktools.errors import ToktoolsError
from toktools.options import add_verify_key_option, number
from toktools.system import files, onscreen
from toktools.system.onscreen import GREEN, RED
from toktools.tokens import approvers

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from toktools.cli import Console
    from toktools.tokens.owners import Faults, Keys
    from toktools.tokens.tokenfile import Place, TokenFile

PURPOSE = "Check every signature in a CloudHSM token file."
EXAMPLE = "tok-verify -p officer1.pub signed-tokens.json"
SECRETS = True  # -p takes a private key too


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options and operands."""
    add_verify_key_option(parser, "the key that should have signed; USER=PUB: that of USER", several=True)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-q", "--quiet", action="store_true", help="write only the lines that are not OK")
    group.add_argument("--json", action="store_true", help="write a JSON object for each file, for scripts")
    parser.add_argument(
        "--need",
        metavar="M",
        type=partial(number, "--need", high=approvers.MAX_APPROVERS),
        help="require the approvals of M approvers in a quorum token",
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="a token file; the default is standard input")


def run(options: argparse.Namespace, console: Console) -> int:
    """Say of every token whether its signature is good."""
    from toktools.tokens import owners, tokenfile

    given = owners.Given(options.verify_key)

    def read(path: str | None) -> tuple[files.Snapshot, TokenFile, Keys, str]:
        source, tokens = tokenfile.read(path)
        if options.need and not tokens.shape.approvals:
            raise ToktoolsError(f"{source.name}: --need is for a quorum token, and this is not one")
        return (source, tokens, {}, "") if options.verify_key else (source, tokens, *owners.inside(tokens, source.name))

    status = 0
    for source, tokens, inside, member in console.each(options.files, read):
        keys = inside or given.keys(tokens, source.name)
        faults = owners.faults(tokens, keys, options.need, partial(_counted, console))
        if options.json:
            facts = _facts(source, tokens, faults, member)
            files.write_stdout(tokenfile.dump_json(facts, None if len(options.files) > 1 else 2))
        else:
            files.write_lines(_lines(source.name, faults, member, quiet=options.quiet))
        status = max(status, any(fault for _, fault in faults))
    return status


def _counted(console: Console, places: Sequence[Place]) -> Iterator[Place]:
    """Yield the places that are verified, and tell a person how many are."""
    progress = console.progress(f"of {len(places)} verified")
    for place in places:
        yield place
        if progress:
            progress.step()
    console.end_progress()


def _lines(name: str, faults: Faults, member: str, *, quiet: bool) -> Iterator[bytes]:
    good, failed = onscreen.coloured(files.STDOUT, "OK", GREEN), onscreen.coloured(files.STDOUT, "FAILED", RED)
    good += f" (by the {member} in the file)" if member else ""
    for place, fault in faults:
        if fault or not quiet:
            yield f"{name}: {place}: {f'{failed}: {fault}' if fault else good}\n".encode()


def _facts(source: files.Snapshot, tokens: TokenFile, faults: Faults, member: str) -> dict[str, object]:
    """Return what --json writes. Scripts rely on it: members may be added, but none is renamed."""
    return {
        "file": source.path,
        "kind": tokens.shape.kind,
        "ok": not any(fault for _, fault in faults),
        "key": member or None,
        "signatures": [{"of": place, "ok": not fault, "fault": fault or None} for place, fault in faults],
    }

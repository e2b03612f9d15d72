"""tok-verify: check every signature in a token file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import CommandLine, Operand, Option
from toktools.system import files, terminal
from toktools.system.terminal import GREEN, RED
from toktools.tokens import approvers

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.owners import Faults, Keys
    from toktools.tokens.tokenfile import Place, TokenFile


def _need(text: str) -> int:
    if text not in map(str, range(1, approvers.MAX_APPROVERS + 1)):
        raise ToktoolsError(f"--need: not a number from 1 to {approvers.MAX_APPROVERS}")
    return int(text)


COMMAND_LINE = CommandLine(
    "tok-verify",
    "Check every signature in a CloudHSM token file.",
    "tok-verify -p officer1.pub signed-tokens.json",
    Option(
        "-p",
        "PUB",
        "the key that should have signed; USER=PUB: that of USER",
        also="--verify-key",
        repeated=True,
    ),
    (
        Option("-q", "", "write only the lines that are not OK", also="--quiet"),
        Option("--json", "", "write a JSON object for each file, for scripts"),
    ),
    Option("--need", "M", "require the approvals of M approvers in a quorum token", convert=_need),
    Operand("FILE", "a token file; the default is standard input", many=True),
)


def _work(options: SimpleNamespace) -> int:
    from toktools.tokens import owners, tokenfile

    given = owners.Given(options.p)

    def read(path: str | None) -> tuple[files.Snapshot, TokenFile, Keys, str]:
        source, tokens = tokenfile.read(path)
        if options.need and not tokens.shape.approvals:
            raise ToktoolsError(f"{source.name}: --need is for a quorum token, and this is not one")
        return (source, tokens, {}, "") if options.p else (source, tokens, *owners.inside(tokens, source.name))

    status = 0
    for source, tokens, inside, member in TOOL.each(options.FILE, read):
        keys = inside or given.keys(tokens, source.name)
        faults = owners.faults(tokens, keys, options.need, _counted)
        if options.json:
            facts = _facts(source, tokens, faults, member)
            files.write_stdout(tokenfile.dump_json(facts, None if len(options.FILE) > 1 else 2))
        else:
            files.write_lines(_lines(source.name, faults, member, quiet=options.q))
        status = max(status, any(fault for _, fault in faults))
    return status


def _counted(places: Sequence[Place]) -> Iterator[Place]:
    """Yield the places that are verified, and tell a person how many are."""
    progress = TOOL.progress(f"of {len(places)} verified")
    for place in places:
        yield place
        if progress:
            progress.step()
    TOOL.end_progress()


def _lines(name: str, faults: Faults, member: str, *, quiet: bool) -> Iterator[bytes]:
    good, failed = terminal.coloured(files.STDOUT, "OK", GREEN), terminal.coloured(files.STDOUT, "FAILED", RED)
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


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-verify."""
    return TOOL.run(argv)

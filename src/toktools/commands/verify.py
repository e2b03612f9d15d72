"""tok-verify: check every signature in a token file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import CommandLine, Operand, Option
from toktools.system import files, terminal
from toktools.system.terminal import GREEN, RED
from toktools.tokens import approvals

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import Slot, TokenFile
    from toktools.tokens.verify import Results


def _need(text: str) -> int:
    if text not in map(str, range(1, approvals.MAX_APPROVERS + 1)):
        raise ToktoolsError(f"--need: not a number from 1 to {approvals.MAX_APPROVERS}")
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
    from toktools.tokens import jsonfile, tokenfile, verify

    if not options.p:
        raise ToktoolsError("-p PUB is missing")
    verify_keys = verify.VerifyKeys(options.p)

    def read(path: str | None) -> tuple[files.Snapshot, TokenFile]:
        source, tokens = tokenfile.read(path)
        if options.need and not tokens.kind.has_approvals:
            raise ToktoolsError(f"{source.name}: --need is for a quorum token, and this is not one")
        return source, tokens

    status = 0
    for source, tokens in TOOL.each(options.FILE, read):
        keys = verify_keys.keys(tokens, source.name)
        try:
            results = verify.check_all(tokens, keys, options.need, _counted)
        except ToktoolsError as error:
            raise error.at(source.name) from None
        if options.json:
            facts = _facts(source, tokens, results)
            files.write_lines(jsonfile.iterate_ascii(facts, None if len(options.FILE) > 1 else 2))
        else:
            files.write_lines(_lines(source.name, results, quiet=options.q))
        status = max(status, any(problem for _, problem in results))
    return status


def _counted(slots: Sequence[Slot]) -> Iterator[Slot]:
    """Yield the slots that are verified, and tell a person how many are."""
    progress = TOOL.progress(f"of {len(slots)} verified")
    for slot in slots:
        yield slot
        if progress:
            progress.step()
    TOOL.end_progress()


def _lines(name: str, results: Results, *, quiet: bool) -> Iterator[bytes]:
    good, failed = terminal.coloured(files.STDOUT, "OK", GREEN), terminal.coloured(files.STDOUT, "FAILED", RED)
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
        "signatures": [{"of": slot, "ok": not problem, "fault": problem or None} for slot, problem in results],
    }


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-verify."""
    return TOOL.run(argv)

"""tok-merge: put signatures into a token file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import TOKENS, CommandLine, Operand, Option
from toktools.system import files
from toktools.tokens import approvals

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    from toktools.tokens.tokenfile import Slot, TokenFile


COMMAND_LINE = CommandLine(
    "tok-merge",
    "Put signatures into a CloudHSM token file, all of them or none.",
    "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json",
    (
        Option("-i", "", "change FILE in place", also="--in-place"),
        Option("-o", "OUT", "write to OUT, whole or not at all", also="--output"),
    ),
    TOKENS,
    Option("-p", "PUB", "verify with this key first; USER=PUB: the key of USER", also="--verify-key", repeated=True),
    (
        Option(
            "-u", "USER", "the approver who signed a quorum token", also="--user", convert=partial(approvals.user, "-u")
        ),
        Option("--approvals", "", "the SIGNATURE files are copies of FILE with approvals"),
    ),
    Option(
        "-R", "ROLE", "the approver's role, admin or crypto-user", also="--role", convert=partial(approvals.role, "-R")
    ),
    Operand("FILE", "the token file", required=True),
    Operand("SIGNATURE", "a file with signatures; the default is standard input", many=True),
)


def _work(options: SimpleNamespace) -> int:
    from toktools.tokens import tokenfile

    if options.FILE == "-" and options.i:
        raise ToktoolsError("-i: standard input cannot be changed in place")
    files.refuse_stdin_twice([options.FILE, *(options.SIGNATURE or "-")])
    if options.i:
        files.refuse_irregular(options.FILE)
    if "-" in {options.FILE, *(options.SIGNATURE or "-")}:
        TOOL.tell_typist("a token file" if options.FILE == "-" else "signatures")
    source, tokens = tokenfile.read(options.FILE)
    try:
        _refuse_what_does_not_fit(tokens, options)
    except ToktoolsError as error:
        raise error.at(source.name) from None
    chosen = options.n.indices(len(tokens.digests))
    problem = _checker(tokens, source.name, options.p)
    try:
        _fill(source.name, tokens, options, chosen, problem)
    except ToktoolsError as error:
        raise error.at(source.name).also("nothing written") from None
    out = options.FILE if options.i else options.o
    if out in {None, "-"}:
        files.write_stdout(tokens.dump())
    else:
        from toktools.system.atomic import write_atomically

        write_atomically(
            {out: tokens.dump()},
            inputs=[*options.SIGNATURE, *options.p],
            seen=source,
            may_replace=lambda old: not old or tokenfile.is_token_file(old),
        )
    return 0


def _checker(tokens: TokenFile, name: str, arguments: Sequence[str]) -> Callable[[Slot], str] | None:
    """Return what checks a slot with the keys of -p, if there are any."""
    if not arguments:
        return None
    from toktools.tokens import verify

    return verify.checker(tokens, verify.VerifyKeys(arguments).keys(tokens, name))


def _fill(
    name: str,
    tokens: TokenFile,
    options: SimpleNamespace,
    chosen: Sequence[int],
    problem: Callable[[Slot], str] | None,
) -> None:
    """Put all signatures into their slots, and check them. Raises ToktoolsError."""
    from toktools.tokens import merge

    if options.approvals:
        changed = merge.combine(tokens, options.SIGNATURE)
    else:
        signatures = merge.read_signatures(options.SIGNATURE, len(chosen))
        if options.u:
            changed = merge.approve(tokens, options.u, options.R, signatures[0], TOOL.warn)
        else:
            changed = merge.put(tokens, chosen, signatures)
    merge.check(tokens.slots(), changed, problem, lambda warning: TOOL.warn(f"{name}: {warning}"))


def _refuse_what_does_not_fit(tokens: TokenFile, options: SimpleNamespace) -> None:
    """Refuse options that are for another kind of token file than this."""
    if tokens.kind.has_approvals:
        if not (options.u or options.approvals):
            raise ToktoolsError("a quorum token takes the signature of an approver", "name the approver with -u and -R")
    else:
        for value, flag in ((options.u, "-u"), (options.R, "-R"), (options.approvals, "--approvals")):
            if value:
                title = tokens.kind.title
                raise ToktoolsError(f"{flag}: only a quorum token has approvers, and this is a file for {title}")
    if options.R and not options.u:
        raise ToktoolsError("-R needs -u, the approver")
    if options.approvals and not options.SIGNATURE:
        raise ToktoolsError("--approvals: copies of the quorum token are missing")


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-merge."""
    return TOOL.run(argv)

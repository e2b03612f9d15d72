"""tok-merge: put signatures into a token file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import TOKENS, CommandLine, Operand, Option
from toktools.system import files
from toktools.tokens import approvers

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.merging import Judge
    from toktools.tokens.tokenfile import TokenFile


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
            "-u", "USER", "the approver who signed a quorum token", also="--user", convert=partial(approvers.user, "-u")
        ),
        Option("--approvals", "", "the SIGNATURE files are copies of FILE with approvals"),
    ),
    Option(
        "-R", "ROLE", "the approver's role, admin or crypto-user", also="--role", convert=partial(approvers.role, "-R")
    ),
    Option("--public-key", "PUB", "fill in the public key in an authdata file", default=None),
    Operand("FILE", "the token file", required=True),
    Operand("SIGNATURE", "a file with signatures; the default is standard input", many=True),
)


def _work(options: SimpleNamespace) -> int:
    from toktools.tokens import merging, tokenfile

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
    judges = merging.judges(tokens, source.name, options.p)
    try:
        _fill(source.name, tokens, options, chosen, judges)
    except ToktoolsError as error:
        raise error.at(source.name).also("nothing written") from None
    out = options.FILE if options.i else options.o
    if out in {None, "-"}:
        files.write_stdout(tokens.dump())
    else:
        from toktools.system.atomic import write_atomically

        read = [*options.SIGNATURE, *options.p, *([] if options.public_key is None else [options.public_key])]
        write_atomically({out: tokens.dump()}, inputs=read, seen=source, may_replace=_may_replace)
    return 0


def _may_replace(old: bytes) -> bool:
    """Say whether -o may replace a file with this content: a token file, or none."""
    from toktools.tokens import tokenfile

    try:
        return not old or bool(tokenfile.parse(old))
    except ToktoolsError:
        return False


def _fill(name: str, tokens: TokenFile, options: SimpleNamespace, chosen: Sequence[int], judges: list[Judge]) -> None:
    """Put all signatures into the places that they are for, and verify them. Raises ToktoolsError."""
    from toktools.tokens import merging

    if options.approvals:
        changed = merging.combine(tokens, options.SIGNATURE)
    else:
        signatures = merging.signatures(options.SIGNATURE, len(chosen))
        if options.u:
            changed = merging.approve(tokens, options.u, options.R, signatures[0], TOOL.warn)
        else:
            changed = merging.put(tokens, chosen, signatures)
    if options.public_key is not None:
        judges.append(merging.put_public_key(tokens, options.public_key))
    merging.check(tokens.places(), changed, judges, lambda warning: TOOL.warn(f"{name}: {warning}"))


def _refuse_what_does_not_fit(tokens: TokenFile, options: SimpleNamespace) -> None:
    """Refuse options that are for another kind of token file than this."""
    shape = tokens.shape
    for given, flag, fits in (
        (options.u, "-u", shape.approvals),
        (options.R, "-R", shape.approvals),
        (options.approvals, "--approvals", shape.approvals),
        (options.public_key, "--public-key", shape.public_key),
    ):
        if given not in {None, False} and not fits:
            raise ToktoolsError(f"{flag}: this is {shape.article} {shape.title} file, which has no place for that")
    if shape.approvals and not (options.u or options.approvals):
        raise ToktoolsError("a quorum token takes the signature of an approver", "name the approver with -u and -R")
    if options.R and not options.u:
        raise ToktoolsError("-R needs -u, the approver")
    if options.approvals and not options.SIGNATURE:
        raise ToktoolsError("--approvals: copies of the quorum token are missing")


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-merge."""
    return TOOL.run(argv)

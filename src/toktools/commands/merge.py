"""tok-merge: put signatures into a token file."""

from __future__ import annotations

from functools import partial

from toktools.errors import ToktoolsError
from toktools.options import add_tokens_option, add_verify_key_option
from toktools.system import files
from toktools.tokens import approvals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from toktools.cli import Console
    from toktools.tokens.tokenfile import Slot, TokenFile

PURPOSE = "Put signatures into a CloudHSM token file, all of them or none."
EXAMPLE = "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options and operands."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("-i", "--in-place", action="store_true", help="change FILE in place")
    group.add_argument("-o", "--output", metavar="OUT", help="write to OUT, whole or not at all")
    add_tokens_option(parser)
    add_verify_key_option(parser, "verify with this key first; USER=PUB: the key of USER", several=True)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "-u",
        "--user",
        metavar="USER",
        type=partial(approvals.user, "-u"),
        help="the approver who signed a quorum token",
    )
    group.add_argument("--approvals", action="store_true", help="the SIGNATURE files are copies of FILE with approvals")
    parser.add_argument(
        "-R", "--role", metavar="ROLE", choices=approvals.ROLES, help="the approver's role, admin or crypto-user"
    )
    parser.add_argument("file", metavar="FILE", help="the token file")
    parser.add_argument(
        "signatures", metavar="SIGNATURE", nargs="*", help="a file with signatures; the default is standard input"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Write the token file with the signatures in it."""
    from toktools.tokens import merge, tokenfile

    if options.file == "-" and options.in_place:
        raise ToktoolsError("-i: standard input cannot be changed in place")
    files.refuse_stdin_twice([options.file, *(options.signatures or "-")])
    if options.in_place:
        files.refuse_irregular(options.file)
    if "-" in {options.file, *(options.signatures or "-")}:
        console.note_reading_from_terminal("a token file" if options.file == "-" else "signatures")
    source, tokens = tokenfile.read(options.file)
    if tokens.kind.has_approvals and not (options.user or options.approvals):
        for path in options.signatures:
            merge.signatures_in(path)  # copies need --approvals
    try:
        _refuse_what_does_not_fit(tokens, options)
        chosen = options.tokens.indices(len(tokens))
    except ToktoolsError as error:
        raise error.at(source.name) from None
    problem = _checker(tokens, source.name, options.verify_key, console.warn)
    try:
        changed = _fill(tokens, options, chosen, console)
        merge.check(tokens, changed, problem, lambda warning: console.warn(f"{source.name}: {warning}"))
    except ToktoolsError as error:
        raise error.at(source.name).also("nothing written") from None
    out = options.file if options.in_place else options.output
    if out in {None, "-"}:
        files.write_lines(tokens.dump())
    else:
        from toktools.system.atomic import write_atomically

        write_atomically(
            out,
            tokens.dump(),
            inputs=options.signatures,
            seen=source,
            may_replace=tokenfile.may_replace,
        )
    return 0


def _checker(
    tokens: TokenFile, name: str, arguments: Sequence[str], warn: Callable[[str], None]
) -> Callable[[Slot], str] | None:
    """Return a function that checks a slot with the keys of -p, if there are any."""
    if not arguments:
        return None
    from toktools.keys import read_public_key
    from toktools.tokens import verify

    keys = verify.verify_keys(arguments, tokens, name, partial(read_public_key, warn=warn))
    return verify.checker(tokens, keys)


def _fill(tokens: TokenFile, options: argparse.Namespace, chosen: Sequence[int], console: Console) -> Sequence[int]:
    """Put all signatures into their slots, and return the indices of the slots. Raises ToktoolsError."""
    from toktools.tokens import merge

    if options.approvals:
        return merge.combine(tokens, options.signatures)
    signatures = merge.read_signatures(options.signatures, len(chosen))
    if options.user:
        return merge.approve(tokens, options.user, options.role, signatures[0], console.warn)
    return merge.put(tokens, chosen, signatures)


def _refuse_what_does_not_fit(tokens: TokenFile, options: argparse.Namespace) -> None:
    """Refuse options that are for another kind of token file than this."""
    if tokens.kind.has_approvals:
        if not (options.user or options.approvals):
            raise ToktoolsError("a quorum token, but no approver is named", "name the approver with -u USER -R ROLE")
    else:
        for value, flag in ((options.user, "-u"), (options.role, "-R"), (options.approvals, "--approvals")):
            if value:
                raise ToktoolsError(f"{flag}: only a quorum token has approvers, and this is {tokens.kind}")
    if options.role and not options.user:
        raise ToktoolsError("-R needs -u, the approver")
    if options.approvals and not options.signatures:
        raise ToktoolsError("--approvals: copies of the quorum token are missing")

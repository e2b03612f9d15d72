"""tok-merge: put signatures into a token file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from types import SimpleNamespace

from toktools import approvers, encoding, files, records
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import TOKENS, CommandLine, Operand, Option

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from collections.abc import Callable

    from toktools.tokenfile import Place, TokenFile

    Judge = Callable[[Place], str]


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

_PLAIN = ("signatures, not a token file", "the size of a signature, not a token file")


def _work(options: SimpleNamespace) -> int:
    from toktools import tokenfile

    _refuse_stdin_twice(options)
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
    judge = _judge(tokens, options.p)
    try:
        _fill(source.name, tokens, options, chosen, judge)
    except ToktoolsError as error:
        raise error.at(source.name).also("nothing written") from None
    out = options.FILE if options.i else options.o
    if out in {None, "-"}:
        files.write_stdout(tokens.dump())
    else:
        from toktools import replacing

        read = [*options.SIGNATURE, *options.p, *([] if options.public_key is None else [options.public_key])]
        replacing.replace({out: tokens.dump()}, keep=replacing.status_of(read), seen=source)
    return 0


def _fill(name: str, tokens: TokenFile, options: SimpleNamespace, chosen: Sequence[int], judge: Judge | None) -> None:
    """Put all signatures into the places that they are for, and verify them. Raises ToktoolsError."""
    if options.approvals:
        changed = _combine(tokens, options.SIGNATURE)
    else:
        given = _from_files(options.SIGNATURE) if options.SIGNATURE else _from_stdin(len(chosen))
        _refuse_count(chosen, given)
        changed = _approve(tokens, options, given[0]) if options.u else _put(tokens, chosen, given)
    places = tokens.places()
    for who in filter(None, [judge, _put_public_key(tokens, options)]):
        for index in changed:
            _verify(who, places[index])
    _refuse_signature_twice(places, set(changed))
    if judge is None and options.public_key is None:
        _warn_of_size(name, [places[index].text for index in changed])


def _refuse_stdin_twice(options: SimpleNamespace) -> None:
    if options.FILE == "-" and options.i:
        raise ToktoolsError("-i: standard input cannot be changed in place")
    if [options.FILE, *(options.SIGNATURE or "-")].count("-") > 1:
        raise ToktoolsError("only one of FILE and SIGNATURE can be standard input")


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


def _from_files(paths: Sequence[str]) -> list[bytes]:
    from toktools import tokenfile

    signatures: list[bytes] = []
    for path in paths:
        file = files.read(path, tokenfile.MAX_SIZE)
        try:
            signatures += encoding.signature_file(file.content)
        except ToktoolsError as error:
            raise error.at(file.name) from None
    return signatures


def _from_stdin(count: int) -> list[bytes]:
    return list(islice(records.signatures(), count + 1))  # one too many is enough to know


def _refuse_count(chosen: Sequence[int], signatures: Sequence[bytes]) -> None:
    if len(signatures) != len(chosen):
        more = "more than " if len(signatures) > len(chosen) else ""
        given = encoding.count(min(len(signatures), len(chosen)), "signature")
        wrong = ToktoolsError(f"{encoding.count(len(chosen), 'token')} but {more}{given}")
        silence = "" if signatures else files.why_empty()
        raise wrong.at(silence) if silence else wrong
    sizes = sorted({len(signature) for signature in signatures})
    if len(sizes) > 1:
        raise ToktoolsError(f"signatures of different sizes, {sizes[0]} and {sizes[-1]} bytes")


def _put(tokens: TokenFile, chosen: Sequence[int], signatures: Sequence[bytes]) -> list[int]:
    """Put signatures into the tokens' own places, and return the indices of all places that now have one."""
    for index, signature in zip(chosen, signatures):
        tokens.put(index, signature)
    # Those of tokens outside the list that are still unsigned stay so.
    return [index for index in range(len(tokens.digests)) if tokens.signed(index)]


def _approve(tokens: TokenFile, options: SimpleNamespace, signature: bytes) -> list[int]:
    """Put an approver's entry in, and return the index of its place."""
    if options.R is None and approvers.has_role(tokens, options.u):
        raise ToktoolsError(f"approver {options.u} already has an entry with a role", "give the role with -R")
    if options.R is None and tokens.member("service") is not None:
        TOOL.warn(
            f"-R is missing: the CloudHSM CLI also writes the role of {options.u}, {' or '.join(approvers.ROLES)}"
        )
    return [tokens.approve(approvers.entry(options.u, options.R, signature))]


def _combine(tokens: TokenFile, copies: Sequence[str]) -> list[int]:
    """Put the approvals of copies in, and return the indices of their places."""
    from toktools import tokenfile

    filled = []
    for path in copies:
        try:
            copy, approved = tokenfile.read(path)
        except ToktoolsError as error:
            if error.message.endswith(_PLAIN):
                error.hint = "--approvals takes copies of FILE; for a signature, use -u USER -R ROLE instead"
            raise
        try:
            filled += approvers.combine(tokens, approved)
        except ToktoolsError as error:
            raise error.at(copy.name) from None
    return filled


def _put_public_key(tokens: TokenFile, options: SimpleNamespace) -> Judge | None:
    """Fill the public key in, and return who verifies with it: signatures of another key are of no use beside it."""
    if options.public_key is None:
        return None
    from toktools.keys import owners, public

    key = public.read(options.public_key)
    tokens.put_public_key(public.pem(key))
    return owners.judge(tokens, {"": [key]})


def _judge(tokens: TokenFile, arguments: Sequence[str]) -> Judge | None:
    if not arguments:
        return None
    from toktools.keys import owners

    return owners.judge(tokens, owners.Given(arguments).keys(tokens))


def _warn_of_size(name: str, texts: Sequence[str]) -> None:
    """Say where the signatures are not of the size that AWS documents: nobody has verified them yet."""
    sizes = {len(encoding.decode(text.encode())) for text in {len(text): text for text in texts}.values()}
    for count in sorted(sizes - {encoding.SIGNATURE_SIZES[0]}):
        TOOL.warn(f"{name}: {encoding.undocumented_size(count)}")


def _verify(judge: Judge, place: Place) -> None:
    fault = judge(place)
    if fault:
        raise ToktoolsError(f"{place.name}: {fault}", status=1)


def _refuse_signature_twice(places: Sequence[Place], changed: set[int]) -> None:
    """Refuse one signature for two digests, or of two approvers, which would be one key."""
    first_with: dict[str, int] = {}
    for index, place in enumerate(places):
        first = first_with.setdefault(place.text or f"unsigned {index}", index)
        # What stood in the file before, and stays, is not this command's to judge.
        if places[first].signs != place.signs and not changed.isdisjoint((first, index)):
            raise ToktoolsError(f"{places[first].name} and {place.name} have the same signature")


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-merge."""
    return TOOL.run(argv)

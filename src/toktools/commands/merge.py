"""tok-merge: put signatures into a token file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from types import SimpleNamespace

from toktools import encoding, files, records
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import TOKENS, CommandLine, Operand, Option

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.signatures import Verifier
    from toktools.tokenfile import TokenFile


COMMAND_LINE = CommandLine(
    "tok-merge",
    "Put signatures into a CloudHSM token file, all of them or none.",
    "tok-extract f.json | tok-sign -k officer1.key | tok-merge -i f.json",
    (
        Option("-i", "", "change FILE in place"),
        Option("-o", "OUT", "write to OUT, whole or not at all"),
    ),
    TOKENS,
    Option("-p", "PUB", "verify with this key first", repeated=True),
    Operand("FILE", "the token file", required=True),
    Operand("SIGNATURE", "a file with one signature; by default, lines of standard input", many=True),
)


def _work(options: SimpleNamespace) -> int:
    from toktools import tokenfile

    _refuse_stdin_twice(options)
    if options.i:
        files.refuse_irregular(options.FILE)
    source, tokens = tokenfile.read(options.FILE)
    chosen = options.n.indices(len(tokens.digests))
    verifier = _verifier(tokens, options.p)
    try:
        _put(tokens, chosen, _from_files(options.SIGNATURE) if options.SIGNATURE else _from_stdin(len(chosen)))
        _verify(tokens, verifier)
        _refuse_signature_twice(tokens, set(chosen))
    except ToktoolsError as error:
        raise error.at(source.name).also("nothing written") from None
    out = options.FILE if options.i else options.o
    if out in {None, "-"}:
        files.write_stdout(tokens.dump())
    else:
        files.replace({out: tokens.dump()}, keep=files.status_of([*options.SIGNATURE, *options.p]), seen=source)
    return 0


def _refuse_stdin_twice(options: SimpleNamespace) -> None:
    if options.FILE == "-" and options.i:
        raise ToktoolsError("-i: standard input cannot be changed in place")
    if [options.FILE, *(options.SIGNATURE or "-")].count("-") > 1:
        raise ToktoolsError("standard input cannot be two things at once")


def _from_files(paths: Sequence[str]) -> list[bytes]:
    signatures = []
    for path in paths:
        file = files.read(path, records.MAX_LINE)
        try:
            signatures.append(encoding.signature_file(file.content))
        except ToktoolsError as error:
            raise error.at(file.name) from None
    return signatures


def _from_stdin(count: int) -> list[bytes]:
    return list(islice(records.signatures(), count + 1))  # one too many is enough to know


def _put(tokens: TokenFile, chosen: Sequence[int], signatures: Sequence[bytes]) -> None:
    if len(signatures) != len(chosen):
        more = "more than " if len(signatures) > len(chosen) else ""
        given = _count(min(len(signatures), len(chosen)), "signature")
        raise ToktoolsError(f"{_count(len(chosen), 'token')} but {more}{given}")
    sizes = sorted({len(signature) for signature in signatures})
    if len(sizes) > 1:
        raise ToktoolsError(f"signatures of different sizes, {sizes[0]} and {sizes[-1]} bytes")
    for index, signature in zip(chosen, signatures, strict=True):
        tokens.put(index, signature)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _refuse_signature_twice(tokens: TokenFile, chosen: set[int]) -> None:
    first_with: dict[str, int] = {}
    for index, digest in enumerate(tokens.digests):
        first = first_with.setdefault(tokens.signed(index) or f"unsigned {index}", index)
        # What stood in the file before, and stays, is not this command's to judge.
        if tokens.digests[first] != digest and not chosen.isdisjoint((first, index)):
            raise ToktoolsError(f"tokens {first + 1} and {index + 1} differ, but have one and the same signature")


def _verifier(tokens: TokenFile, paths: Sequence[str]) -> Verifier | None:
    if not paths:
        return None
    from toktools import keys, signatures

    return signatures.Verifier([keys.public(path) for path in paths], tokens.digests)


def _verify(tokens: TokenFile, verifier: Verifier | None) -> None:
    for index in range(len(tokens.digests)) if verifier else ():
        # Those of tokens outside the list that are still unsigned stay so.
        if verifier and tokens.signed(index) and (fault := verifier.fault(index, tokens.signed(index))):
            raise ToktoolsError(f"token {index + 1}: {fault}", status=1)


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-merge."""
    return TOOL.run(argv)

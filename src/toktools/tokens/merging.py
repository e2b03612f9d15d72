"""Signatures on their way into a token file: as many as there are places, each in its own, and none in two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.keys import stream
from toktools.system import files
from toktools.tokens import approvers, tokenfile
from toktools.tokens.tokenfile import Place, TokenFile

Judge = Callable[[Place], str]
"""Says what is wrong with the signature in a place."""
_PLAIN = ("signatures, not a token file", "the size of a signature, not a token file")


def signatures(paths: Sequence[str], count: int) -> list[bytes]:
    """Return so many signatures (256 bytes or more, of one size) from files, or from standard input without one.

    Raises ToktoolsError.
    """
    found = _from_files(paths) if paths else list(islice(stream.read_signatures(), count + 1))  # one too many is enough
    if len(found) != count:
        more = "more than " if len(found) > count else ""
        given = encoding.count(min(len(found), count), "signature")
        wrong = ToktoolsError(f"{encoding.count(count, 'token')} but {more}{given}")
        silence = "" if found else files.why_empty()
        raise wrong.at(silence) if silence else wrong
    sizes = sorted({len(signature) for signature in found})
    if len(sizes) > 1:
        raise ToktoolsError(f"signatures of different sizes, {sizes[0]} and {sizes[-1]} bytes")
    return found


def put(tokens: TokenFile, chosen: Sequence[int], signatures: Sequence[bytes]) -> list[int]:
    """Put signatures into the tokens' own places, and return the indices of all places that now have one."""
    for index, signature in zip(chosen, signatures):
        tokens.put(index, signature)
    # Those of tokens outside the list that are still unsigned stay so.
    return [index for index in range(len(tokens.digests)) if tokens.signed(index)]


def approve(tokens: TokenFile, user: str, role: str | None, signature: bytes, warn: Callable[[str], None]) -> list[int]:
    """Put an approver's entry in, and return the index of its place. Raises ToktoolsError where the role is missing."""
    if role is None and approvers.has_role(tokens, user):
        raise ToktoolsError(f"approver {user} already has an entry with a role", "give the role with -R")
    if role is None and tokens.member("service") is not None:
        warn(f"-R is missing: the CloudHSM CLI also writes the role of {user}, {' or '.join(approvers.ROLES)}")
    return [tokens.approve(approvers.entry(user, role, signature))]


def combine(tokens: TokenFile, copies: Sequence[str]) -> list[int]:
    """Put the approvals of copies in, and return the indices of their places. Raises ToktoolsError."""
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


def judges(tokens: TokenFile, name: str, arguments: Sequence[str]) -> list[Judge]:
    """Return who verifies the file of a name with the keys of -p: nobody where there are none. Raises ToktoolsError."""
    if not arguments:
        return []
    from toktools.tokens import owners

    return [owners.judge(tokens, owners.Given(arguments).keys(tokens, name))]


def put_public_key(tokens: TokenFile, path: str) -> Judge:
    """Fill the public key in, and return who verifies with it: signatures of another key are of no use beside it."""
    from toktools.keys import public
    from toktools.tokens import owners

    key = public.read(path)
    tokens.put_public_key(public.pem(key))
    return owners.judge(tokens, {"": [key]})


def check(
    places: Sequence[Place], changed: Sequence[int], judges: Sequence[Judge], warn: Callable[[str], None]
) -> None:
    """Refuse signatures that a judge finds wrong, and one for two digests, or of two approvers, which would be one key.

    Without a judge, warn of sizes that AWS does not document: nobody has verified them yet. Raises ToktoolsError.
    """
    for judge in judges:
        for index in changed:
            fault = judge(places[index])
            if fault:
                raise ToktoolsError(f"{places[index].name}: {fault}", status=1)
    _refuse_signature_twice(places, set(changed))
    if not judges:
        texts = {len(places[index].text): places[index].text for index in changed}
        sizes = {len(encoding.decode(text.encode())) for text in texts.values()}
        for count in sorted(sizes - {encoding.SIGNATURE_SIZES[0]}):
            warn(encoding.undocumented_size(count))


def _from_files(paths: Sequence[str]) -> list[bytes]:
    found: list[bytes] = []
    for path in paths:
        file = files.read(path, tokenfile.MAX_SIZE)
        try:
            found += encoding.signature_file(file.content)
        except ToktoolsError as error:
            raise error.at(file.name) from None
    return found


def _refuse_signature_twice(places: Sequence[Place], changed: set[int]) -> None:
    first_with: dict[str, int] = {}
    for index, place in enumerate(places):
        first = first_with.setdefault(place.text or f"unsigned {index}", index)
        # What stood in the file before, and stays, is not this command's to judge.
        if places[first].signs != place.signs and not changed.isdisjoint((first, index)):
            raise ToktoolsError(f"{places[first].name} and {place.name} have the same signature")

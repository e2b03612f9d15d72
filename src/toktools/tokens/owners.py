"""Whose key it is: what -p PUB and -p USER=PUB say, and what a signature has to be by whom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from toktools.errors import ToktoolsError, shown
from toktools.keys.files import parse_public_key, read_public_key
from toktools.signatures import PublicKey, Verifier
from toktools.tokens.usernames import is_user, shown_user

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import Place, TokenFile

    Keys = Mapping[str, Sequence[PublicKey]]
    """By approver, in lower case; those of nobody's name under ""."""
    Faults = list[tuple[str, str]]
    """The name of each place, and what is wrong with its signature, if anything is."""


class Given:
    """The arguments of -p. Each file is read once, for it may be a pipe, however many token files there are."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._read: dict[str, PublicKey] = {}

    def keys(self, tokens: TokenFile, name: str) -> Keys:
        """Return the keys for the token file of a name; USER=PUB names an approver where it has approvers.

        Raises ToktoolsError.
        """
        by_name: dict[str, list[PublicKey]] = {}
        for argument in self._arguments:
            user, equals, path = argument.partition("=")
            named = bool(equals) and is_user(user) and bool(tokens.shape.approvals)
            if equals and not named and is_user(user) and not os.path.exists(argument):
                raise ToktoolsError(
                    f"{name}: -p {shown(argument)}: USER=PUB is for the approvers of a quorum token, which this is not"
                )
            by_name.setdefault(user.lower() if named else "", []).append(self._key(path if named else argument))
        return by_name

    def _key(self, path: str) -> PublicKey:
        if path not in self._read:
            self._read[path] = read_public_key(path)
        return self._read[path]


class Approvals:
    """Says what is wrong with approvals: each by a key of its approver, and one key for one approver alone."""

    def __init__(self, tokens: TokenFile, by_name: Keys) -> None:
        self._digests = tokens.digests
        self._by_name = by_name
        self._owners: dict[int, str] = {}
        """Of each modulus that signed, the approver."""

    def fault(self, place: Place) -> str:
        """Say why an approval is not good; an empty string where it is."""
        user = str(place.signs)
        keys = self._by_name.get(user, self._by_name.get("", ()))
        fault = Verifier(keys, self._digests).fault(0, place.text) if keys else "no key is given"
        if fault:
            return fault
        key = next(key for key in keys if not Verifier([key], self._digests).fault(0, place.text))
        first = self._owners.setdefault(key.public_numbers().n, user)
        return f"the same key as that of approver {shown_user(first)}" if first != user else ""

    @property
    def approved(self) -> set[str]:
        """Return those whose approval was good."""
        return set(self._owners.values())


def judge(tokens: TokenFile, by_name: Keys) -> Callable[[Place], str]:
    """Return what says why the signature in a place of this token file is not good."""
    if tokens.shape.approvals:
        return Approvals(tokens, by_name).fault
    verifier = Verifier(by_name.get("", ()), tokens.digests)
    return lambda place: verifier.fault(place.index, place.text)


def inside(tokens: TokenFile, name: str) -> tuple[Keys, str]:
    """Return the key that the file of this name itself has, and the member that it is in. Raises ToktoolsError."""
    member = tokens.shape.public_key
    pem = tokens.member(member) if member else None
    if not isinstance(pem, str) or not pem:
        raise ToktoolsError(f"{name}: -p PUB is missing")
    return {"": [parse_public_key(pem, f"{name}: {member}")]}, member


def faults(
    tokens: TokenFile, by_name: Keys, need: int | None, each: Callable[[Sequence[Place]], Iterable[Place]]
) -> Faults:
    """Judge each signature; where the file has approvers, also whether so many have approved, or else all with keys."""
    if not tokens.shape.approvals:
        by = judge(tokens, by_name)
        return [(place.name, by(place)) for place in each(tokens.places())]
    approvals = Approvals(tokens, by_name)
    # Where some are enough, there are those who need not sign.
    places = [place for place in tokens.places() if place.text or not need]
    found = [(place.name, approvals.fault(place)) for place in each(places)]
    if not need:
        there = {approval.approver[0] for approval in tokens.approvals}
        found += [(f"approver {user}", "no approval") for user in by_name if user and user not in there]
    signed = len(approvals.approved)
    if need or not found:
        found.append(("approvals", "" if signed >= (need or 1) else f"{signed} of {need or 1}"))
    return found

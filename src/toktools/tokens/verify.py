"""Check the signatures in a token file with the public keys of -p."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.signatures import PublicKey, Verifier, verifies
from toktools.tokens.approvals import is_user_name, shown_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import Slot, TokenFile

    Keys = Mapping[str, Sequence[PublicKey]]
    """Public keys by approver, in lower case; the keys for everybody are under an empty string."""
    Results = Iterable[tuple[str, str]]
    """The name of each slot and the problem with its signature, or an empty string."""


def verify_keys(arguments: Sequence[str], tokens: TokenFile, name: str, read_key: Callable[[str], PublicKey]) -> Keys:
    """Return the keys of -p for a token file; USER=PUB is the key of an approver if the file has approvers.

    *name* is that of the file in messages. Raises ToktoolsError.
    """
    keys: dict[str, list[PublicKey]] = {}
    for argument in arguments:
        user, equals, key = argument.partition("=")
        is_pair = bool(equals) and is_user_name(user)
        if is_pair and tokens.kind.has_approvals:
            keys.setdefault(user.lower(), []).append(read_key(key))
        elif is_pair and not os.path.exists(argument):
            # Without the argument: a PIN may be in it.
            reason = f"-p USER=PUB is for the approvers of a quorum token, and this is {tokens.kind}"
            raise ToktoolsError(f"{name}: {reason}")
        else:
            keys.setdefault("", []).append(read_key(argument))
    return keys


class ApprovalChecker:
    """A check of approvals: each needs a key of its approver, and no key may serve two approvers."""

    def __init__(self, digests: Sequence[bytes], keys: Keys) -> None:
        self._digests = digests
        self._keys = keys
        self._users: dict[int, str] = {}
        """The approver whom each modulus has signed for."""

    def problem(self, slot: Slot) -> str:
        """Return why an approval is not good, or an empty string."""
        keys = self._keys.get(slot.user, self._keys.get("", ()))
        if not keys:
            return "no key is given"
        problem = Verifier(keys, self._digests).problem(0, slot.text)
        if problem:
            return problem
        signature = encoding.decode(slot.text.encode())
        key = next(key for key in keys if verifies(key, slot.digest, signature))
        first = self._users.setdefault(key.public_numbers().n, slot.user)
        return f"the same key as that of approver {shown_name(first)}" if first != slot.user else ""

    @property
    def approvers(self) -> set[str]:
        """The approvers with a good approval, each once."""
        return set(self._users.values())


def checker(tokens: TokenFile, keys: Keys) -> Callable[[Slot], str]:
    """Return a function that returns the problem with the signature in a slot."""
    if tokens.kind.has_approvals:
        return ApprovalChecker(tokens.digests, keys).problem
    verifier = Verifier(keys.get("", ()), tokens.digests)
    return lambda slot: verifier.problem(slot.index, slot.text)


def check_all(tokens: TokenFile, keys: Keys, need: int | None) -> Results:
    """Check every signature, and in a quorum token that *need* approvers, or all who have keys, have signed."""
    if not tokens.kind.has_approvals:
        problem = checker(tokens, keys)
        for slot in tokens.slots():
            yield slot.name, problem(slot)
        return
    approvals = ApprovalChecker(tokens.digests, keys)
    # If some are enough, there are approvers who need not sign.
    slots = [slot for slot in tokens.slots() if slot.text or not need]
    for slot in slots:
        yield slot.name, approvals.problem(slot)
    signers = {approval.user for approval in tokens.approvals}
    missing = [user for user in keys if user and user not in signers and not need]
    for user in missing:
        yield f"approver {user}", "no approval"
    count = len(approvals.approvers)
    if need or not (slots or missing):
        yield "approvals", "" if count >= (need or 1) else f"{count} of {need or 1}"

"""Insert signatures into a token file, exactly one per token, or the approvals of approvers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from toktools import encoding, records
from toktools.errors import ToktoolsError
from toktools.keys import stream
from toktools.system import files
from toktools.tokens import approvals, tokenfile
from toktools.tokens.jsonfile import NotJsonError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toktools.tokens.tokenfile import Slot, TokenFile


def read_signatures(paths: Sequence[str], count: int) -> list[bytes]:
    """Return *count* signatures of one size from files, or from standard input if there are none.

    Raises ToktoolsError.
    """
    if paths:
        signatures = [signature for path in paths for signature in signatures_in(path)]
    else:
        signatures = list(islice(stream.read_signatures(), count + 1))  # one too many is enough
    if len(signatures) != count:
        more = "more than " if len(signatures) > count else ""
        number = encoding.count(min(len(signatures), count), "signature")
        error = ToktoolsError(f"{encoding.count(count, 'token')} but {more}{number}")
        reason = "" if signatures else files.why_empty()
        raise error.at(reason) if reason else error
    sizes = sorted(set(map(len, signatures)))
    if len(sizes) > 1:
        raise ToktoolsError(f"signatures of different sizes, {sizes[0]} and {sizes[-1]} bytes")
    return signatures


def signatures_in(path: str) -> list[bytes]:
    """Return the signatures in a file. Raises ToktoolsError, with a hint for a token file or a key."""
    file = files.read(path, tokenfile.MAX_SIZE)
    try:
        return records.signature_file(file.content)
    except ToktoolsError as error:
        if tokenfile.is_token_file(file.content):
            hint = "FILE comes first, then its signatures; copies of a quorum token come after --approvals"
            raise ToktoolsError(f"{file.name}: a token file, not signatures", hint) from None
        if b"PRIVATE KEY-----" in file.content or file.content.startswith(b"\x30\x82"):
            error.hint = f"tok-extract FILE | tok-sign -k {file.name} | tok-merge -i FILE signs with this key"
        raise error.at(file.name) from None


def put(tokens: TokenFile, chosen: Sequence[int], signatures: Sequence[bytes]) -> Sequence[int]:
    """Put signatures into the slots of the chosen tokens, and return the indices of all slots."""
    for index, signature in zip(chosen, signatures):
        tokens.put(index, signature)
    return range(len(tokens))


def approve(tokens: TokenFile, user: str, role: str | None, signature: bytes, warn: Callable[[str], None]) -> list[int]:
    """Insert an approver's entry, and return the index of its slot. Raises ToktoolsError if the role is missing."""
    if role is None:
        if any(approval.user == user.lower() and approval.role for approval in tokens.approvals):
            raise ToktoolsError(f"approver {user} already has an entry with a role", "give the role with -R")
        if tokens.member("service") is not None:
            roles = " or ".join(approvals.ROLES)
            warn(f"-R is missing: the CloudHSM CLI also writes the role of {user}, {roles}")
    # In the order of the CloudHSM CLI.
    entry: dict[str, object] = {"username": user, "role": role, "signature": encoding.encode(signature).decode()}
    if role is None:
        del entry["role"]
    return [tokens.approve(entry)]


def combine(tokens: TokenFile, copies: Sequence[str]) -> list[int]:
    """Insert the approvals of copies, and return the indices of their slots. Raises ToktoolsError."""
    for approval in tokens.approvals:
        approval.check()
    filled = []
    for path in copies:
        try:
            source, copy = tokenfile.read(path)
        except NotJsonError as error:
            error.hint = "--approvals takes copies of FILE; for a signature, use -u USER -R ROLE instead"
            raise
        try:
            filled += _combine(tokens, copy)
        except ToktoolsError as error:
            raise error.at(source.name) from None
    return filled


def check(
    tokens: TokenFile, changed: Sequence[int], problem: Callable[[Slot], str] | None, warn: Callable[[str], None]
) -> None:
    """Refuse changed slots with a problem, and a signature in the slots of two different tokens or approvers.

    Without *problem*, which verifies them, warn of sizes that AWS does not document. A slot may be empty. Raises
    ToktoolsError, with status 1 if a signature does not verify.
    """
    lengths = set()
    for slot in map(tokens.slot, changed):
        reason = problem(slot) if problem and slot.text else ""
        if reason:
            raise ToktoolsError(f"{slot.name}: {reason}", status=1)
        lengths.add(len(slot.text))
    _refuse_signature_twice(tokens, changed)
    for size in () if problem else encoding.SIGNATURE_SIZES[1:]:
        if len(encoding.encode(bytes(size))) in lengths:
            warn(encoding.undocumented_size(size))


def _combine(tokens: TokenFile, copy: TokenFile) -> list[int]:
    if not copy.kind.has_approvals:
        raise ToktoolsError(f"this is {copy.kind}, not a copy of the quorum token")
    if copy.digest(0) != tokens.digest(0):
        raise ToktoolsError("this is a copy of another token")
    signed = [approval for approval in copy.approvals if approval.signature]
    if not signed:
        raise ToktoolsError("this copy has no approval")
    filled = []
    for approval in signed:
        approval.check()
        approver = f"approver {approval.username}"
        try:
            records.signature(approval.signature.encode())
        except ToktoolsError as error:
            raise error.at(approver) from None
        index = tokens.find_approval(approval.user, approval.role)
        old = None if index is None else tokens.approvals[index]
        if old and old.signature not in {"", approval.signature}:
            raise ToktoolsError(f"{approver} has two different entries")
        # An entry that is there may still lack its signature, or its role.
        if not old or not old.signature or (old.role is None and approval.role is not None):
            filled.append(tokens.approve(approval.entry))
    return filled


def _refuse_signature_twice(tokens: TokenFile, changed: Sequence[int]) -> None:
    chosen = changed if isinstance(changed, range) else set(changed)
    first_with: dict[int, int] = {}
    for index, slot in enumerate(tokens.slots()):
        # The hash, since the texts of a large file are much memory.
        first = first_with.setdefault(hash(slot.text), index) if slot.text else index
        if first == index:
            continue
        other = tokens.slot(first)
        # Two slots that stay as they were are not this command's business.
        if (
            other.text == slot.text
            and (other.digest, other.user) != (slot.digest, slot.user)
            and (first in chosen or index in chosen)
        ):
            raise ToktoolsError(f"{other.name} and {slot.name} have the same signature")

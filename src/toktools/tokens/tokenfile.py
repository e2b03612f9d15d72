"""Token files: read the digests, put signatures in, and write the file again."""

from __future__ import annotations

from toktools import encoding, records
from toktools.errors import ToktoolsError
from toktools.system import files
from toktools.tokens import approvals, jsonfile, kinds
from toktools.tokens.approvals import Approval, shown_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_SIZE = 16 << 20
"""Bytes of the largest file that is read; a full cluster of 28 HSMs needs 13,000."""


class Slot:
    """A slot for the signature of a digest: that of a token, or that of an approver."""

    def __init__(self, name: str, digest: bytes, text: str, *, index: int = 0, user: str = "") -> None:
        self.name = name
        """The name in messages."""
        self.digest = digest
        self.text = text
        """The base64 of the signature, or an empty string."""
        self.index = index
        """The index of the digest."""
        self.user = user
        """The approver in lower case; an empty string in the slot of a token."""


class TokenFile:
    """A token file: its kind, its digests of 32 bytes, and its slots for signatures.

    It keeps only the document of a large file, and computes the rest on demand.
    """

    def __init__(self, text: bytes, document: dict[str, object]) -> None:
        self.kind, self._tokens = kinds.recognize(document)
        self.approvals = approvals.read_list(document) if self.kind.has_approvals else []
        self._by_user: dict[str, list[int]] = {}
        """The indices of the approvals of each user."""
        for index, approval in enumerate(self.approvals):
            self._by_user.setdefault(approval.user, []).append(index)
        self._document = document
        self._is_cut = text.endswith(b"}")
        """Whether the last line lacks its line feed."""
        for index in range(len(self)):
            self.digest(index)
            if self.kind.has_approval_data:
                self.approval_data(index)

    def __len__(self) -> int:
        return len(self._tokens)

    def digest(self, index: int) -> bytes:
        """Return the digest of a token."""
        return self._decoded(index, self.kind.digest, records.digest)

    @property
    def digests(self) -> list[bytes]:
        """The digests of all tokens."""
        return [self.digest(index) for index in range(len(self))]

    def approval_data(self, index: int) -> bytes:
        """Return the approval data of a token, whose SHA-256 is its digest. Raises ToktoolsError if there is none."""
        if not self.kind.has_approval_data:
            raise ToktoolsError(
                f"{self.kind} has no approval data",
                "it has only digests, so use a signer that does not hash; see tok-recipes(7)",
            )
        return self._decoded(index, "approval_data", encoding.decode)

    def digest_matches(self, index: int) -> bool:
        """Return whether a digest is the SHA-256 of the approval data beside it."""
        from hashlib import sha256

        return sha256(self.approval_data(index)).digest() == self.digest(index)

    def check_approval_data(self) -> None:
        """Refuse approval data whose SHA-256 is not the digest, which people would sign blindly."""
        for index in range(len(self)) if self.kind.has_approval_data else ():
            if not self.digest_matches(index):
                raise ToktoolsError(
                    f'token {index + 1}: the digest is not the SHA-256 of "approval_data"; do not sign it'
                )

    def slots(self) -> Iterator[Slot]:
        """Yield the slots of all tokens, or of all approvers."""
        return map(self.slot, range(len(self.approvals if self.kind.has_approvals else self)))

    def slot(self, index: int) -> Slot:
        """Return the slot of a token, or of an approver."""
        if not self.kind.has_approvals:
            return Slot(f"token {index + 1}", self.digest(index), self.signature(index), index=index)
        approval = self.approvals[index]
        name = f"approver {shown_name(approval.username)}"
        return Slot(name, self.digest(0), approval.signature, user=approval.user)

    def signature(self, index: int) -> str:
        """Return the text in the slot of a token: base64, or an empty string."""
        signature = self._tokens[index]["signed"]
        return encoding.encode(signature).decode() if isinstance(signature, bytes) else str(signature)

    def put(self, index: int, signature: bytes) -> None:
        """Put a signature into the slot of a token."""
        self._tokens[index]["signed"] = signature  # dump() encodes it

    def approve(self, entry: dict[str, object]) -> int:
        """Insert the entry of an approver, in place of the old one or after the others, and return its index.

        The old entry keeps its spelling of name and role.
        """
        new = Approval(entry)
        index = self.find_approval(new.user, new.role)
        if index is None:
            self._by_user.setdefault(new.user, []).append(len(self.approvals))
            self.approvals.append(new)
            kinds.read_list(self._document, "signatures").append(entry)
            return len(self.approvals) - 1
        old = self.approvals[index]
        spelled: dict[str, object] = {name: old.entry[name] for name in ("username", "role") if name in old.entry}
        merged = {**old.entry, **entry, **spelled}
        if "role" in entry and "role" not in old.entry:  # the CLI has it after the name
            merged = {"username": merged["username"], "role": merged["role"], **merged}
        old.entry.clear()
        old.entry.update(merged)
        return index

    def find_approval(self, user: str, role: str | None) -> int | None:
        """Return the index of the approval of a user in a role.

        An entry without a role is that of the user in whatever role.
        """
        indices = self._by_user.get(user, [])
        same = [index for index in indices if self.approvals[index].role == role]
        other = [index for index in indices if role is None or self.approvals[index].role is None]
        return next(iter(same + other), None)

    def member(self, name: str) -> object:
        """Return a top-level member, or None."""
        return self._document.get(name)

    def dump(self) -> Iterator[bytes]:
        """Yield the file in pieces as the CloudHSM CLI writes it, with all members in their order."""
        return jsonfile.dump(self._document, b"" if self._is_cut else b"\n")

    def _decoded(self, index: int, member: str, decode: Callable[[bytes], bytes]) -> bytes:
        try:
            return decode(str(self._tokens[index][member]).encode())
        except ToktoolsError as error:
            raise error.at(f'token {index + 1}: "{member}"') from None


def read(path: str | None) -> tuple[files.Snapshot, TokenFile]:
    """Read a token file, or standard input if *path* is None or "-", and check its approval data.

    Raises ToktoolsError.
    """
    source, tokens = inspect(path)
    try:
        tokens.check_approval_data()
    except ToktoolsError as error:
        raise error.at(source.name) from None
    return source, tokens


def inspect(path: str | None) -> tuple[files.Snapshot, TokenFile]:
    """Read a token file without checking its approval data, only to show it. Raises ToktoolsError."""
    source = files.read(path, MAX_SIZE)
    files.refuse_as_stdout(source)
    try:
        tokens = parse(source.content)
    except ToktoolsError as error:
        error.hint = error.hint or ("" if source.content or source.path else files.why_empty())
        raise error.at(source.name) from None
    source.content = b""  # a large file is not kept twice
    return source, tokens


def parse(text: bytes) -> TokenFile:
    """Parse a token file. Raises ToktoolsError if it is not valid, or if its kind is unknown."""
    try:
        document = jsonfile.loads(text)
    except jsonfile.NotJsonError as error:
        from toktools import hints

        if found := hints.not_token_file(text):
            error.message, error.hint = found.message, found.hint
        raise
    if not isinstance(document, dict):
        raise ToktoolsError("not a token file: not a JSON object")
    return TokenFile(text, document)


def may_replace(content: bytes) -> bool:
    """Return whether a token file may replace a file with *content*: a token file, or nothing."""
    return not content or is_token_file(content)


def is_token_file(content: bytes) -> bool:
    """Return whether *content* is a token file, and not too large."""
    try:
        return len(content) <= MAX_SIZE and bool(parse(content))
    except ToktoolsError:
        return False

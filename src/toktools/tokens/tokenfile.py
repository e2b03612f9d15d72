"""Token files: read the digests, put signatures in, and write the file again."""

from __future__ import annotations

from toktools import encoding, records
from toktools.errors import ToktoolsError
from toktools.system import files
from toktools.tokens import approvals, jsonfile, kinds
from toktools.tokens.approvals import Approval, shown_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SIZE = 16 << 20
"""Bytes of the largest file that is read; a full cluster of 28 HSMs needs 13 thousand."""


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
    """A token file: its kind, its digests of 32 bytes, and its slots for signatures."""

    def __init__(self, text: bytes, document: dict[str, object]) -> None:
        self.kind, self._tokens = kinds.recognize(document)
        self.digests = self._decode(self.kind.digest, records.digest)
        self.approvals = approvals.read_list(document.get("signatures")) if self.kind.has_approvals else []
        self._approval_data = self._decode("approval_data", encoding.decode) if self.kind.has_approval_data else []
        self._is_cut = text.endswith(b"}")
        """Whether the last line has no end."""
        self._document = document

    @property
    def approval_data(self) -> list[bytes]:
        """The bytes whose SHA-256 each digest is. Raises ToktoolsError if the file has none."""
        if not self.kind.has_approval_data:
            raise ToktoolsError(
                f"a file for {self.kind.title} has no approval data",
                "it has only digests, so use a signer that does not hash; see tok-recipes(7)",
            )
        return self._approval_data

    def digest_matches(self, index: int) -> bool:
        """Say whether a digest is the SHA-256 of the approval data beside it."""
        from hashlib import sha256

        return sha256(self.approval_data[index]).digest() == self.digests[index]

    def check_approval_data(self) -> None:
        """Raise ToktoolsError if the SHA-256 of approval data is not the digest, which would be signed blind."""
        for index in range(len(self._approval_data)):
            if not self.digest_matches(index):
                raise ToktoolsError(
                    f'token {index + 1}: the digest is not the SHA-256 of "approval_data"; do not sign it'
                )

    def slots(self) -> list[Slot]:
        """Return the slots of all tokens, or of all approvers."""
        if self.kind.has_approvals:
            return [
                Slot(f"approver {shown_name(one.username)}", self.digests[0], one.signature, user=one.user)
                for one in self.approvals
            ]
        return [
            Slot(f"token {index + 1}", digest, self.signature(index), index=index)
            for index, digest in enumerate(self.digests)
        ]

    def signature(self, index: int) -> str:
        """Return the text in the slot of a token: base64, or an empty string."""
        return str(self._tokens[index]["signed"])

    def put(self, index: int, signature: bytes) -> None:
        """Put a signature into the slot of a token."""
        self._tokens[index]["signed"] = encoding.encode(signature).decode()

    def approve(self, entry: dict[str, object]) -> int:
        """Put in the entry of an approver, in place of the one that is there or after the others; return its index.

        Name and role stay as they are spelled there.
        """
        new = Approval(entry)
        old = self.approval_by(new.user, new.role)
        if old is None:
            self.approvals.append(new)
            self._document["signatures"] = [approval.entry for approval in self.approvals]
            return len(self.approvals) - 1
        spelled: dict[str, object] = {name: old.entry[name] for name in ("username", "role") if name in old.entry}
        old.entry.update({**entry, **spelled})
        return self.approvals.index(old)

    def approval_by(self, user: str, role: str | None) -> Approval | None:
        """Return the approval of a user in a role; an entry without a role is that of the user in whatever role."""
        of_user = [approval for approval in self.approvals if approval.user == user]
        same = [approval for approval in of_user if approval.role == role]
        other = [approval for approval in of_user if role is None or approval.role is None]
        return next(iter(same + other), None)

    def member(self, name: str) -> object:
        """Return a top-level member, or None."""
        return self._document.get(name)

    def dump(self) -> bytes:
        """Return the file as the CloudHSM CLI writes it, with all members in their order."""
        return b"".join(jsonfile.dump(self._document, b"" if self._is_cut else b"\n"))

    def _decode(self, member: str, decode: Callable[[bytes], bytes]) -> list[bytes]:
        decoded = []
        for number, token in enumerate(self._tokens, start=1):
            try:
                decoded.append(decode(str(token[member]).encode()))
            except ToktoolsError as error:
                raise error.at(f'token {number}: "{member}"') from None
        return decoded


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
    """Read a token file only to show it: its digests may not be those of its approval data. Raises ToktoolsError."""
    source = files.read(path, MAX_SIZE)
    files.refuse_as_stdout(source)
    try:
        tokens = parse(source.content)
    except ToktoolsError as error:
        error.hint = error.hint or ("" if source.content or source.path else files.why_empty())
        raise error.at(source.name) from None
    return source, tokens


def parse(text: bytes) -> TokenFile:
    """Return the token file that *text* is. Raises ToktoolsError if it is not valid or of no known kind."""
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
    """Say whether a token file may replace a file with *content*: another token file, or nothing."""
    return not content or is_token_file(content)


def is_token_file(content: bytes) -> bool:
    """Say whether *content* is a token file of a size that is read."""
    try:
        return len(content) <= MAX_SIZE and bool(parse(content))
    except ToktoolsError:
        return False

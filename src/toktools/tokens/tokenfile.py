"""The shapes of token files: parse, list the digests, put signatures in, dump."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from toktools import encoding
from toktools.errors import ToktoolsError, shown
from toktools.system import files
from toktools.tokens import jsontext
from toktools.tokens.usernames import shown_user

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from typing import TypeVar

    Member = TypeVar("Member")

_MAX_SHOWN = 40
MAX_SIZE = 1 << 26
"""Bytes of the largest file that is read; a full cluster of 28 HSMs needs 13 thousand."""


class Shape:
    """One kind of token file: how it is known by its members, and where its digests and signatures stand."""

    def __init__(  # noqa: PLR0913 - a row of a table
        self,
        *,
        kind: str,
        title: str,
        version: tuple[str, str],
        root: tuple[str, ...],
        entry: tuple[str, ...],
        digest: str,
        entries: str = "",
        never: tuple[str, ...] = (),
        signature: str = "",
        approvals: str = "",
        approval_data: str = "",
        public_key: str = "",
        article: str = "a",
    ) -> None:
        self.kind = kind
        """The kind's name for scripts."""
        self.title = title
        """The kind in the user's words."""
        self.version = version
        """The member with the version, and the one that is known."""
        self.root = root
        """The top-level members that tell this kind from those with others."""
        self.entry = entry
        """The members, all texts, that every entry has."""
        self.digest = digest
        """The entry's member with the digest."""
        self.entries = entries
        """The member with the list of entries; without one, the file is its own single entry."""
        self.never = never
        """The members that no entry has: with them it is another kind."""
        self.signature = signature
        """The entry's member that the signature goes into."""
        self.approvals = approvals
        """Where there are several signers instead, the member with the list of their approvals."""
        self.approval_data = approval_data
        """The entry's member with what was hashed: its SHA-256 must be the digest."""
        self.public_key = public_key
        """The member that the signer's public key goes into, as PEM."""
        self.article = article


SHAPES = (
    Shape(
        kind="mfa",
        title="MFA login or set-up",
        article="an",
        version=("version", "2.0"),
        root=("tokens",),
        entries="tokens",
        entry=("unsigned", "signed"),
        never=("approval_data",),
        digest="unsigned",
        signature="signed",
    ),
    Shape(
        kind="quorum-registration",
        title="quorum registration",
        version=("version", "2.0"),
        root=("tokens",),
        entries="tokens",
        entry=("approval_data", "unsigned", "signed"),
        digest="unsigned",
        signature="signed",
        approval_data="approval_data",
    ),
    Shape(
        kind="quorum-token",
        title="quorum token",
        version=("version", "2.0"),
        root=("token", "approval_data"),
        entry=("approval_data", "token"),
        digest="token",
        approvals="signatures",
        approval_data="approval_data",
    ),
    Shape(
        kind="authdata",
        title="CMU authdata",
        version=("Version", "1.0"),
        root=("Data",),
        entries="Data",
        entry=("Digest", "Signature"),
        never=("approval_data",),
        digest="Digest",
        signature="Signature",
        public_key="PublicKey",
    ),
)


class Place:
    """One place of a signature: the index of its digest, its text, base64 or nothing, and the approver, if it is one's.

    signs is what no other place with the same signature may differ in: the digest, or the approver.
    """

    __slots__ = ("_approver", "index", "signs", "text")

    def __init__(self, index: int, text: str, signs: object, approver: str | None = None) -> None:
        self.index = index
        self.text = text
        self.signs = signs
        self._approver = approver

    @property
    def name(self) -> str:
        """Its name for the user."""
        if self._approver is None:
            return f"token {self.index + 1}"
        return f"approver {shown_user(self._approver)}"


class TokenFile:
    """A token file: its digests (32 bytes each), and the texts that stand where the signatures go."""

    def __init__(
        self, shape: Shape, text: bytes, document: dict[str, object], entries: Sequence[dict[str, object]]
    ) -> None:
        self.shape = shape
        self.digests = [_bytes(entry, shape.digest, number, encoding.digest) for number, entry in _numbered(entries)]
        self.approvals = _approvals(document, shape.approvals) if shape.approvals else []
        self._places_of: dict[str, dict[str | None, int]] = {}
        """By user and role."""
        for index, approval in enumerate(self.approvals):
            user, role = approval.approver
            if self._places_of.setdefault(user, {}).setdefault(role, index) != index:
                raise ToktoolsError(f"approver {shown_user(approval.username)} has two entries")
        self._text = text
        self._document = document
        self._entries = entries

    @cached_property
    def approval_data(self) -> list[bytes]:
        """The bytes whose SHA-256 each digest is, where the file has them."""
        member = self.shape.approval_data
        if not member:
            return []
        return [_bytes(entry, member, number, encoding.decode) for number, entry in _numbered(self._entries)]

    def hashed(self, name: str) -> list[bytes]:
        """Return the bytes whose SHA-256 each digest is. Raises ToktoolsError where the file, name, has none."""
        if not self.shape.approval_data:
            raise ToktoolsError(
                f"{name}: {self.shape.article} {self.shape.title} file has no approval data",
                "it has only digests, so use a signer that does not hash; see tok-recipes(7)",
            )
        return self.approval_data

    def is_shown(self, index: int) -> bool:
        """Say whether a digest is the SHA-256 of the approval data beside it."""
        from hashlib import sha256

        return sha256(self.approval_data[index]).digest() == self.digests[index]

    def refuse_blind(self) -> None:
        """Raise ToktoolsError where the file shows what is signed, and its SHA-256 is not the digest."""
        for index in range(len(self.approval_data)):
            if not self.is_shown(index):
                member = self.shape.approval_data
                raise ToktoolsError(f'token {index + 1}: the digest is not the SHA-256 of "{member}"; do not sign it')

    def places(self) -> list[Place]:
        """Return each place that has or may have a signature: a token's, or an approver's."""
        if self.shape.approvals:
            return [
                Place(0, approval.signature, approval.approver[0], approval.username) for approval in self.approvals
            ]
        return [Place(index, self.signed(index), digest) for index, digest in enumerate(self.digests)]

    def signed(self, index: int) -> str:
        """Return the text in a token's own place: base64, or empty where the token is unsigned."""
        return str(self._entries[index][self.shape.signature])

    def put(self, index: int, signature: bytes) -> None:
        """Put a signature in a token's own place."""
        self._entries[index][self.shape.signature] = encoding.encode(signature).decode()

    def approve(self, entry: dict[str, object]) -> int:
        """Put an approver's entry in the place of the one that there is, member by member, or after the others.

        Returns the index of its place.
        """
        new = Approval(entry)
        user, role = new.approver
        index = self._place_of(user, role)
        if index is None:
            index = len(self.approvals)
            self.approvals.append(new)
            _approval_list(self._document, self.shape.approvals).append(entry)
        else:  # whose name and role stay as they are spelled
            there = self.approvals[index].entry
            kept = {"username", "role"} & there.keys()
            there.update({name: member for name, member in entry.items() if name not in kept})
        self._places_of.setdefault(user, {})[role] = index
        return index

    def approval_by(self, approver: tuple[str, str | None]) -> Approval | None:
        """Return the approval of an approver, if there is one."""
        index = self._place_of(*approver)
        return None if index is None else self.approvals[index]

    def _place_of(self, user: str, role: str | None) -> int | None:
        """Return the index of an approver's entry: one without a role is that of the user in whatever role."""
        places = self._places_of.get(user, {})
        if role is None:
            return places.get(None, next(iter(places.values()), None))
        return places.get(role, places.get(None))

    def put_public_key(self, pem: str) -> None:
        """Put the signer's public key in its place."""
        self._document[self.shape.public_key] = pem

    def member(self, name: str) -> object:
        """Return a top-level member, or None."""
        return self._document.get(name)

    def dump(self) -> bytes:
        """Return the file as it was read, but for what was put in."""
        members = (self.shape.entries, self.shape.approvals)
        lists = [one for member in members if isinstance(one := self._document.get(member), list)]
        return jsontext.edit(self._text, self._document, lists)


class Approval:
    """An approver's entry in a quorum token: the user, the role (None in files of 2023), and the signature's text."""

    def __init__(self, entry: dict[str, object]) -> None:
        self.entry = entry

    @property
    def username(self) -> str:
        """The approver."""
        return str(self.entry["username"])

    @property
    def role(self) -> str | None:
        """The role: admin or crypto-user."""
        return str(self.entry["role"]) if "role" in self.entry else None

    @property
    def signature(self) -> str:
        """The base64 of the signature, or an empty text."""
        return str(self.entry["signature"])

    @property
    def approver(self) -> tuple[str, str | None]:
        """Whose it is: the user, in lower case since CloudHSM's user names are not case sensitive, and the role."""
        return (self.username.lower() if self.username.isascii() else self.username, self.role)


def read(path: str | None) -> tuple[files.Snapshot, TokenFile]:
    """Read a token file, or standard input where path is None or "-", and make sure that nobody signs blind.

    Raises ToktoolsError.
    """
    source, tokens = inspect(path)
    try:
        tokens.refuse_blind()
    except ToktoolsError as error:
        raise error.at(source.name) from None
    return source, tokens


def inspect(path: str | None) -> tuple[files.Snapshot, TokenFile]:
    """Read a token file to look at it: what it shows need not be what is signed. Raises ToktoolsError."""
    source = files.read(path, MAX_SIZE)
    files.refuse_as_stdout(source)
    try:
        tokens = parse(source.content)
        _ = tokens.approval_data  # what cannot be decoded is refused here, where the file's name is known
    except ToktoolsError as error:
        error.hint = error.hint or ("" if source.content or source.path else files.why_empty())
        raise error.at(source.name) from None
    return source, tokens


def parse(text: bytes) -> TokenFile:
    """Take a token file apart. Raises ToktoolsError where it is not valid or of a kind that is not known."""
    try:
        document = jsontext.parse(text)
    except ToktoolsError as error:
        from toktools import hints

        # Not by a name of its own, which would make a cycle of it, its traceback and this frame.
        raise (hints.not_token_file(text) if error.message.startswith("not JSON") else None) or error from None
    if not isinstance(document, dict):
        raise ToktoolsError("not a token file: not a JSON object")
    candidates = _candidates(document)
    _check_version(document, *candidates[0].version)
    entries = _entries(document, candidates[0].entries)
    shapes = {_shape_of(entry, candidates, number) for number, entry in _numbered(entries)}
    if len(shapes) > 1:
        raise ToktoolsError("tokens of different kinds in one file")
    return TokenFile(shapes.pop(), text, document, entries)


def dump_json(value: object, indent: int | None = 2) -> bytes:
    """Return any value as JSON, with a last newline, and in ASCII, so that no text moves the cursor."""
    return f"{json.dumps(value, indent=indent)}\n".encode()


def _entries(document: dict[str, object], member: str) -> list[dict[str, object]]:
    entries = document.get(member) if member else [document]
    if not isinstance(entries, list) or not entries:
        raise ToktoolsError(f'"{member}" contains no tokens')
    for number, entry in _numbered(entries):
        if not isinstance(entry, dict):
            raise ToktoolsError(f"token {number}: not a JSON object")
    return entries


def _approval_list(document: dict[str, object], member: str) -> list[dict[str, object]]:
    entries = document.get(member)
    if not isinstance(entries, list):
        raise ToktoolsError(f'no list "{member}"')
    return entries


def _approvals(document: dict[str, object], member: str) -> list[Approval]:
    entries = _approval_list(document, member)
    for number, entry in _numbered(entries):
        wrong = [name for name in ("username", "signature") if not isinstance(entry, dict) or name not in entry]
        if wrong:
            raise ToktoolsError(f'approval {number}: no member "{wrong[0]}"')
        for name in ("username", "role", "signature"):
            if not isinstance(entry.get(name, ""), str):
                raise ToktoolsError(f'approval {number}: "{name}" is not a string')
    return [Approval(entry) for entry in entries]


def _numbered(entries: Sequence[Member]) -> Iterator[tuple[int, Member]]:
    return enumerate(entries, start=1)


def _candidates(document: dict[str, object]) -> list[Shape]:
    roots = dict.fromkeys(shape.root for shape in SHAPES)
    there = [[name for name in root if name in document] for root in roots]
    if not any(there):
        wanted = " or ".join(f'"{root[0]}"' for root in roots)
        raise ToktoolsError(f"not a token file: no member {wanted}")
    first, *others = [names[0] for names in there if names]
    if others:
        mixed = " and ".join(f'"{name}"' for name in (first, *others))
        raise ToktoolsError(f"not a token file: {mixed} are members of different kinds of token file")
    return [shape for shape in SHAPES if first in shape.root]


def _check_version(document: dict[str, object], member: str, known: str) -> None:
    if member not in document:
        raise ToktoolsError(f'no member "{member}"')
    if document[member] != known:
        raise ToktoolsError(f'unknown "{member}": {_json(document[member])}; toktools knows "{known}"')


def _shape_of(entry: dict[str, object], candidates: Sequence[Shape], number: int) -> Shape:
    for shape in candidates:
        if entry.keys() >= set(shape.entry) and entry.keys().isdisjoint(shape.never):
            for name in shape.entry:
                if not isinstance(entry[name], str):
                    raise ToktoolsError(f'token {number}: "{name}" is not a string')
            return shape
    missing = next((name for name in candidates[0].entry if name not in entry), "")
    raise ToktoolsError(f'token {number}: no member "{missing}"' if missing else f"token {number}: of no known kind")


def _bytes(entry: dict[str, object], member: str, number: int, decode: Callable[[bytes], bytes]) -> bytes:
    try:
        return decode(str(entry[member]).encode())
    except ToktoolsError as error:
        raise error.at(f'token {number}: "{member}"') from None


def _json(value: object) -> str:
    text = f'"{shown(value)}"' if isinstance(value, str) else jsontext.spell(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."

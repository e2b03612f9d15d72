"""What commands of several groups take and answer: users, token files, approvals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

from toktools import encoding
from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import Option
from toktools.rehearsal.dialogue import read
from toktools.rehearsal.members import ADMIN, CRYPTO_USER, Name
from toktools.rehearsal.syntax import Choice, Several

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue
    from toktools.tokens.tokenfile import TokenFile

_MAX_DIGITS = 10

VERSION = "2.0"
"""Of token files."""

CLUSTER_ID = Option("--cluster-id", "ID", "the cluster to use; the default is the one given at the start")
USERNAME = Option("--username", "USERNAME", "the user", convert=str.lower, required=True)
ROLE = Choice(
    "--role",
    "the user's role",
    {ADMIN: "manages the users of the cluster", CRYPTO_USER: "owns keys, and works with them"},
)
PASSWORD = Option("--password", "PASSWORD", "the password; without it, the CLI asks for it")
APPROVAL = Option("--approval", "FILE", "the signed quorum token")
FILTER = Several(
    "--filter", "FILTER", "the one key that fits key-reference=0x... or all of attr.NAME=VALUE", required=True
)
TOKEN = Option("--token", "FILE", "the file for the unsigned tokens")


def name(given: SimpleNamespace) -> Name:
    """Return the user that a command line names."""
    return (given.username, given.role)


def user_data(who: Name) -> dict[str, object]:
    """Return a user as answers have it."""
    return {"username": who[0], "role": who[1]}


def approval(given: SimpleNamespace) -> TokenFile | None:
    """Read the quorum token that a command line names."""
    return None if given.approval is None else read(given.approval)


def signed(shell: Dialogue, path: str, digests: Sequence[bytes]) -> TokenFile:
    """Write the digests of a login or a set-up, and return the file that comes back signed."""
    tokens = [{"unsigned": text(digest), "signed": ""} for digest in digests]
    shell.write(path, {"version": VERSION, "tokens": tokens})
    return shell.signed_file(path)


def filters(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return what --filter asks for, as names and values."""
    found = [(name, value) for name, _, value in (word.partition("=") for word in words)]
    if any(name != "key-reference" and not name.startswith("attr.") for name, _ in found):
        raise ToktoolsError("a filter is key-reference=0x... or attr.NAME=VALUE")
    return found


def number(flag: str) -> Callable[[str], int]:
    """Return what reads the number of an option."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS):
            raise ToktoolsError(f"{flag} is a number")
        return int(text)

    return convert


def text(content: bytes) -> str:
    """Return bytes as token files have them."""
    return encoding.encode(content).decode()

"""Options that several commands take."""

from __future__ import annotations

from functools import partial

from toktools.errors import ToktoolsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

KEY = "a file, pkcs11: or awskms: URI"
PRIVATE_KEY = f"the RSA private key: {KEY}"

_MAX_JOBS = 1000
_MAX_DIGITS = 18  # of the number of a token


def add_key_option(group: argparse._ActionsContainer, about: str = PRIVATE_KEY, *, required: bool = False) -> None:
    """Add -k."""
    group.add_argument("-k", "--key", metavar="KEY", required=required, help=about)


def add_source_option(group: argparse._ActionsContainer, flag: str, about: str) -> None:
    """Add an option for the place of a secret; without it, a person is asked."""
    from toktools.system.prompt import Source

    group.add_argument(
        flag,
        metavar="SOURCE",
        type=partial(Source.parse, flag),
        default=Source.ask(flag),
        help=f"{about}: env:VAR, file:PATH or fd:N",
    )


def add_base64_option(group: argparse._ActionsContainer, signer: str) -> None:
    """Add -b, for a signer that is a command."""
    group.add_argument("-b", "--base64", action="store_true", help=f"the {signer} writes base64, not raw bytes")


def add_verify_key_option(
    group: argparse._ActionsContainer, about: str, *, several: bool = False, required: bool = False
) -> None:
    """Add -p."""
    group.add_argument(
        "-p",
        "--verify-key",
        metavar="PUB",
        action="append" if several else "store",
        default=[] if several else None,
        required=required,
        help=about,
    )


def add_jobs_option(group: argparse._ActionsContainer, about: str) -> None:
    """Add -j."""
    group.add_argument("-j", "--jobs", metavar="N", type=partial(number, "-j", high=_MAX_JOBS), help=about)


def add_verbose_option(group: argparse._ActionsContainer) -> None:
    """Add -v, for commands that talk to another program, a token or AWS KMS."""
    group.add_argument("-v", "--verbose", action="store_true", help="show each step, with the seconds since the start")


def add_tokens_option(group: argparse._ActionsContainer) -> None:
    """Add -n."""
    group.add_argument(
        "-n",
        "--tokens",
        metavar="LIST",
        type=Selection,
        default=Selection("1-"),
        help="only the tokens of this list, counted from 1",
    )


def number(flag: str, text: str, *, high: int) -> int:
    """Return a number from 1 to *high*."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and 0 < int(text) <= high):
        raise ToktoolsError(f"{flag}: not a number from 1 to {high}")
    return int(text)


def cluster_id(text: str) -> str:
    """Return the argument of --cluster-id."""
    if not (text.isascii() and text.replace("-", "").isalnum()) or text.startswith("-"):
        raise ToktoolsError("--cluster-id: a cluster ID has only letters, digits and hyphens")
    return text


def refuse_flags(options: argparse.Namespace, reason: str, *flags: str) -> None:
    """Refuse options that would have no effect, with this reason."""
    for flag in flags:
        if flag in options.flags:
            raise ToktoolsError(f"{flag} {reason}")


class Selection:
    """A list of numbers from 1, as cut(1) takes it: 2 or 1,3-5 or 2- or -3."""

    def __init__(self, text: str) -> None:
        self._ranges = [self._range(part) for part in text.split(",")]

    @staticmethod
    def _range(part: str) -> tuple[int, int | None]:
        first, dash, last = part.partition("-")
        digits = first + last
        # int() would take signs, underscores and other scripts' digits.
        if not (digits.isascii() and digits.isdigit()):
            raise ToktoolsError("-n: expected a list of tokens, such as 2 or 1,3-5 or 2-")
        if max(len(first), len(last)) > _MAX_DIGITS:
            raise ToktoolsError(f"-n: a number has at most {_MAX_DIGITS} digits; no file has so many tokens")
        low = int(first or "1")
        high = (int(last) if last else None) if dash else low
        if not low or (high is not None and high < low):
            raise ToktoolsError("-n: tokens are counted from 1, and a range goes upwards")
        return low, high

    def indices(self, count: int) -> Sequence[int]:
        """Return the indices from 0 of the selected tokens, in order; ToktoolsError where one of them is not there."""
        selected = [range(low - 1, high or count) for low, high in self._ranges]
        missing = max(max(low, high or low) for low, high in self._ranges)
        if missing > count:
            there = "is 1 token" if count == 1 else f"are {count} tokens"
            raise ToktoolsError(f"-n names token {missing}, but there {there}")
        return selected[0] if len(selected) == 1 else sorted(set().union(*selected))

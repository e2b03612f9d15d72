"""tok-verify: say of every token whether its signature is good."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from toktools import approvers, files
from toktools.cli import Tool
from toktools.errors import ToktoolsError, shown
from toktools.options import CommandLine, Operand, Option

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.signatures import PublicKey
    from toktools.tokenfile import TokenFile

    Keys = Mapping[str, Sequence[PublicKey]]


def _need(text: str) -> int:
    if text not in map(str, range(1, approvers.MAX_APPROVERS + 1)):
        raise ToktoolsError(f"--need: not a number from 1 to {approvers.MAX_APPROVERS}")
    return int(text)


COMMAND_LINE = CommandLine(
    "tok-verify",
    "Say of every token in a CloudHSM token file whether its signature is good.",
    "tok-verify -p officer1.pub signed-tokens.json",
    Option("-p", "PUB", "the key that should have signed; USER=PUB: that approver's key", repeated=True),
    Option("-q", "", "write only the lines that are not OK"),
    Option("--need", "M", "want approvals of M approvers in a quorum token", convert=_need),
    Operand("FILE", "the token file, by default standard input"),
)


def _work(options: SimpleNamespace) -> int:
    from toktools import tokenfile

    source, tokens = tokenfile.read(options.FILE)
    if options.need and not tokens.shape.approvals:
        raise ToktoolsError(f"{source.name}: --need counts the approvers of a quorum token, and this is none")
    by_name, remark = _keys(tokens, options.p) if options.p else _key_inside(tokens, source.name)
    faults = _approvals(tokens, by_name, options.need) if tokens.shape.approvals else _tokens(tokens, by_name)
    lines = [
        f"{source.name}: {name}: {f'FAILED: {fault}' if fault else f'OK{remark}'}\n"
        for name, fault in faults
        if fault or not options.q
    ]
    files.write_stdout("".join(lines).encode())
    return 1 if any(fault for _, fault in faults) else 0


def _keys(tokens: TokenFile, given: Sequence[str]) -> tuple[Keys, str]:
    """Return the keys by approver, in lower case, with those of nobody's name under ""; and a remark on where from."""
    from toktools.keys import public

    by_name: dict[str, list[PublicKey]] = {}
    for argument in given:
        user, equals, path = argument.partition("=")
        named = bool(equals) and approvers.is_user(user) and bool(tokens.shape.approvals)
        by_name.setdefault(user.lower() if named else "", []).append(public.read(path if named else argument))
    return by_name, ""


def _key_inside(tokens: TokenFile, name: str) -> tuple[Keys, str]:
    from toktools.keys import public

    member = tokens.shape.public_key
    inside = tokens.member(member) if member else None
    if not isinstance(inside, str) or not inside:
        raise ToktoolsError(f"{name}: -p PUB is missing")
    return {"": [public.parse(inside, f"{name}: {member}")]}, f" (by the {member} in the file)"


def _tokens(tokens: TokenFile, by_name: Keys) -> list[tuple[str, str]]:
    from toktools import signatures

    verifier = signatures.Verifier(by_name[""], tokens.digests)
    return [(place.name, verifier.fault(place.index, place.text)) for place in tokens.places()]


def _approvals(tokens: TokenFile, by_name: Keys, need: int | None) -> list[tuple[str, str]]:
    from toktools import signatures

    faults = []
    good: dict[int, str] = {}
    for approval, place in zip(tokens.approvals, tokens.places()):
        if need and not place.text:
            continue  # one of those who need not sign
        user = approval.approver[0]
        keys = by_name.get(user, by_name.get("", ()))
        fault = signatures.Verifier(keys, tokens.digests).fault(0, place.text) if keys else "no key is given"
        if not fault:
            key = next(key for key in keys if not signatures.Verifier([key], tokens.digests).fault(0, place.text))
            first = good.setdefault(key.public_numbers().n, user)
            fault = f"the same key as that of approver {shown(first)}" if first != user else ""
        faults.append((place.name, fault))
    if not need:
        there = {approval.approver[0] for approval in tokens.approvals}
        faults += [(f"approver {user}", "no approval") for user in by_name if user and user not in there]
    signed = len(set(good.values()))
    if need or not faults:
        faults.append(("approvals", "" if signed >= (need or 1) else f"{signed} of {need or 1}"))
    return faults


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-verify."""
    return TOOL.run(argv)

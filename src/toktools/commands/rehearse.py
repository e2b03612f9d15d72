"""tok-rehearse: a stand-in for the CloudHSM CLI."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools.cli import Tool
from toktools.encoding import count
from toktools.errors import ToktoolsError
from toktools.options import CommandLine, Operand, Option

_MAX_HSMS = 28


def _hsms(text: str) -> int:
    if text not in map(str, range(1, _MAX_HSMS + 1)):
        raise ToktoolsError(f"--hsms: not a number from 1 to {_MAX_HSMS}")
    return int(text)


def _cluster_id(text: str) -> str:
    if not (text.isascii() and text.replace("-", "").isalnum()):
        raise ToktoolsError("a cluster ID has only letters, digits and hyphens")
    return text


_OPTIONS = (
    Option("--state", "FILE", "the file that keeps the cluster"),
    Option("--hsms", "N", "how many HSMs the cluster has; the default is 3", convert=_hsms),
    Option("--cluster-id", "ID", "the name of the cluster in the prompt", convert=_cluster_id),
    Option("--prompt-after-login", "", "show user and cluster in the prompt after a login, as CLI 5.15 does"),
    Option("--registration-signatures", "", "write signatures in the file of a quorum registration, as CLI 5.18 does"),
)

COMMAND_LINE = CommandLine(
    "tok-rehearse",
    "Rehearse a login to CloudHSM, with a stand-in for its CLI.",
    "tok-rehearse interactive",
    *_OPTIONS,
    Operand("COMMAND", "interactive, or a single command of the CLI", command=True, usage="COMMAND [ARG...]"),
)
_INTERACTIVE = CommandLine("tok-rehearse interactive", COMMAND_LINE.purpose, COMMAND_LINE.example, *_OPTIONS)


def _work(options: SimpleNamespace) -> int:
    words = options.COMMAND
    interactive = words[0] == "interactive"
    if interactive:  # an option behind it wins
        later = _INTERACTIVE.parse(words[1:])
        vars(options).update({name: value for name, value in vars(later).items() if value})
        options.state = options.state if later.state is None else later.state

    from toktools.rehearsal.commands import parser
    from toktools.rehearsal.shell import ONLY_CLUSTER, Shell
    from toktools.rehearsal.state import State

    hsms = options.hsms or 3
    state = State(options.state)
    TOOL.say(f"a rehearsal: no HSM is behind it, only {state.name}, as a cluster of {count(hsms, 'HSM')}")
    shell = Shell(
        state,
        hsms,
        parser(),
        TOOL.complain,
        options.cluster_id or ONLY_CLUSTER,
        options.prompt_after_login,
        options.registration_signatures,
    )
    if not interactive:
        return shell.run(words)
    shell.interact()
    return 0


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-rehearse."""
    return TOOL.run(argv)

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


_STATE = Option("--state", "FILE", "where the cluster is kept")
_CLUSTER_ID = Option("--cluster-id", "ID", "the cluster's id, which the CLI's commands may name")
_HSMS = Option("--hsms", "N", "how many HSMs the cluster has, by default 3", convert=_hsms)

COMMAND_LINE = CommandLine(
    "tok-rehearse",
    "Rehearse a login to CloudHSM, with a stand-in for its CLI.",
    "tok-rehearse interactive",
    _STATE,
    _HSMS,
    _CLUSTER_ID,
    Operand("COMMAND", "interactive, or a single command of the CLI", command=True, usage="COMMAND [ARG...]"),
)
_INTERACTIVE = CommandLine(
    "tok-rehearse interactive", COMMAND_LINE.purpose, COMMAND_LINE.example, _STATE, _HSMS, _CLUSTER_ID
)


def _work(options: SimpleNamespace) -> int:
    words = options.COMMAND
    interactive = words[0] == "interactive"
    later = _INTERACTIVE.parse(words[1:]) if interactive else options
    path = options.state if later.state is None else later.state
    hsms = later.hsms or options.hsms or 3

    from toktools.rehearsal.commands import COMMANDS, GROUPS
    from toktools.rehearsal.dialogue import Dialogue, Start
    from toktools.rehearsal.state import State

    state = State(path)
    TOOL.say(f"a rehearsal: no HSM is behind it, only {state.name}, as a cluster of {count(hsms, 'HSM')}")
    dialogue = Dialogue(
        state, hsms, COMMANDS, TOOL.complain, GROUPS, Start(cluster_id=later.cluster_id or options.cluster_id or "")
    )
    if not interactive:
        return dialogue.run(words)
    dialogue.interact()
    return 0


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-rehearse."""
    return TOOL.run(argv)

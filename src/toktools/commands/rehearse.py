"""tok-rehearse: a stand-in for the CloudHSM CLI."""

from __future__ import annotations

from functools import partial

from toktools.options import cluster_id, number
from toktools.parser import Parser
from toktools.tokens.kinds import MAX_HSMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from toktools.cli import Console

PURPOSE = "Rehearse a login to CloudHSM, with a stand-in for its CLI."
EXAMPLE = "tok-rehearse interactive"


def add_arguments(parser: Parser) -> None:
    """Add the options and operands."""
    _add_options(parser)
    parser.add_argument("command", metavar="COMMAND", help="interactive, or a single command of the CLI")
    parser.add_argument("arguments", metavar="ARG", nargs="...", help="what follows the command")


def _add_options(parser: Parser) -> None:
    parser.add_argument("--state", metavar="FILE", help="the file that keeps the cluster")
    parser.add_argument(
        "--hsms",
        metavar="N",
        type=partial(number, "--hsms", high=MAX_HSMS),
        default=3,
        help="how many HSMs the cluster has; the default is 3",
    )
    parser.add_argument(
        "--cluster-id",
        metavar="ID",
        type=cluster_id,
        default="cluster-rehearsal",
        help="the name of the cluster in the prompt",
    )
    parser.add_argument(
        "--prompt-after-login",
        action="store_true",
        help="show user and cluster in the prompt, like CLI 5.15",
    )
    parser.add_argument(
        "--registration-signatures",
        action="store_true",
        help="add signatures to registrations, like CLI 5.18",
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Run a command of the CLI, or take commands."""
    words = [options.command, *options.arguments]
    interactive = words[0] == "interactive"
    if interactive:  # an option behind it wins
        parser = Parser("tok-rehearse interactive", PURPOSE, EXAMPLE)
        _add_options(parser)
        parser.add_help_options()
        later = parser.parse(words[1:])
        vars(options).update(
            {each.dest: getattr(later, each.dest) for each in parser.options if each.option_strings[0] in later.flags}
        )

    from toktools.encoding import count
    from toktools.rehearsal.commands import CLI
    from toktools.rehearsal.shell import Shell
    from toktools.rehearsal.state import State

    state = State(options.state)
    console.say(f"rehearsal only: {count(options.hsms, 'simulated HSM')}, kept in {state.name}")
    shell = Shell(options, state, CLI)
    if not interactive:
        return shell.run(words)
    shell.interact(console.complain)
    return 0

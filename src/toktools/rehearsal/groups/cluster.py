"""The CLI's commands for the cluster as a whole."""

from __future__ import annotations

from types import SimpleNamespace

from toktools.options import CommandLine
from toktools.rehearsal.groups.shared import CLUSTER_ID, PASSWORD
from toktools.rehearsal.syntax import Command

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue


def _activate(shell: Dialogue, given: SimpleNamespace) -> object:
    password = shell.new_password(given.password)
    with shell.cluster() as cluster:
        cluster.activate(password)
    return "Cluster activation successful"


COMMANDS = (
    Command(
        CommandLine(
            "cluster activate",
            "Make the first admin, whose name is admin.",
            "cluster activate",
            CLUSTER_ID,
            PASSWORD,
        ),
        _activate,
        needs_user=False,
    ),
)

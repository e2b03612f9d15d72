"""The CLI's login and logout."""

from __future__ import annotations

from types import SimpleNamespace

from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import CommandLine, Operand
from toktools.rehearsal.dialogue import refuse_other
from toktools.rehearsal.groups.shared import CLUSTER_ID, PASSWORD, ROLE, TOKEN, USERNAME, name, signed, user_data
from toktools.rehearsal.syntax import Command

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue

_STRATEGY = "mfa-token-sign"


def _check_login(given: SimpleNamespace) -> None:
    if given.STRATEGY not in {None, _STRATEGY} or bool(given.STRATEGY) != bool(given.token):
        raise ToktoolsError(f"a second factor is given as {_STRATEGY} --token FILE")


def _login(shell: Dialogue, given: SimpleNamespace) -> object:
    who = name(given)
    password = shell.password(given.password)
    if given.STRATEGY is None:
        with shell.cluster() as cluster:
            cluster.login(shell.session, who, password)
        return user_data(who)
    refuse_other(given.token)
    with shell.cluster() as cluster:
        digests = cluster.begin_mfa_login(shell.session, who, password)
    answer = signed(shell, given.token, digests)
    with shell.cluster() as cluster:
        cluster.end_mfa_login(shell.session, answer)
    return user_data(who)


def _logout(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        cluster.logout(shell.session)
    return "Logout successful"


_OPERAND = Operand("STRATEGY", f"{_STRATEGY}: with a second factor", usage=f"[{_STRATEGY}]")
_EXAMPLE = f"login --username officer1 --role admin {_STRATEGY} --token unsigned-tokens.json"

COMMANDS = (
    Command(
        CommandLine("login", "Log in.", _EXAMPLE, CLUSTER_ID, USERNAME, ROLE, PASSWORD, _OPERAND, TOKEN),
        _login,
        check=_check_login,
        needs_user=False,
        interactive=True,
        hidden=(TOKEN,),
    ),
    # Never found as a command, since login comes first: it is here for its help.
    Command(
        CommandLine(f"login {_STRATEGY}", "Log in with a second factor.", _EXAMPLE, CLUSTER_ID, TOKEN),
        _login,
    ),
    Command(CommandLine("logout", "Log out.", "logout", CLUSTER_ID), _logout),
)

"""The CLI's commands for users, their passwords, and their keys for MFA and quorum."""

from __future__ import annotations

from types import SimpleNamespace

from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import CommandLine, Option
from toktools.rehearsal.dialogue import read, read_public_key, refuse_other
from toktools.rehearsal.groups.shared import (
    APPROVAL,
    CLUSTER_ID,
    PASSWORD,
    ROLE,
    TOKEN,
    USERNAME,
    approval,
    name,
    signed,
    user_data,
)
from toktools.rehearsal.members import User
from toktools.rehearsal.syntax import Command

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue


def _create(shell: Dialogue, given: SimpleNamespace) -> object:
    password, approved = shell.new_password(given.password), approval(given)
    with shell.cluster() as cluster:
        cluster.create(shell.session, name(given), password, approved)
    return user_data(name(given))


def _delete(shell: Dialogue, given: SimpleNamespace) -> object:
    approved = approval(given)
    with shell.cluster() as cluster:
        cluster.delete(shell.session, name(given), approved)
    return user_data(name(given))


def _list(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        users = list(cluster.users.values())
    unactivated = User(("admin", "unactivated-admin"), b"", b"")
    appliance = User(("app_user", "internal(APPLIANCE_USER)"), b"", b"")
    return {"users": [_listed(user, shell.cluster_id) for user in [*(users or [unactivated]), appliance]]}


def _listed(user: User, cluster_id: str) -> dict[str, object]:
    enabled = [{"strategy": "token-sign", "status": "enabled"}]
    return {
        **user_data(user.name),
        "locked": "true" if user.locked else "false",
        "mfa": enabled if user.mfa else [],
        "quorum": enabled if user.quorum else [],
        "cluster-coverage": "inconsistent" if user.inconsistent == cluster_id else "full",
    }


def _change_password(shell: Dialogue, given: SimpleNamespace) -> object:
    password, approved = shell.new_password(given.password), approval(given)
    with shell.cluster() as cluster:
        cluster.change_password(shell.session, name(given), password, approved, deregister_mfa=given.deregister_mfa)
    return user_data(name(given))


def _change_mfa(shell: Dialogue, given: SimpleNamespace) -> object:
    who = name(given)
    password, approved = shell.new_password(given.change_password), approval(given)
    if given.deregister:
        with shell.cluster() as cluster:
            cluster.deregister_mfa(shell.session, who, password, approved)
        return user_data(who)
    refuse_other(given.token)
    with shell.cluster() as cluster:
        digests = cluster.begin_mfa_change(shell.session, who, password)
    answer = signed(shell, given.token, digests)
    public_key = shell.public_key()
    with shell.cluster() as cluster:
        cluster.end_mfa_change(shell.session, answer, public_key, approved, change_quorum=given.change_quorum)
    return user_data(who)


def _register(shell: Dialogue, given: SimpleNamespace) -> object:
    answer, public_key = read(given.signed_token), read_public_key(given.public_key)
    with shell.cluster() as cluster:
        return user_data(cluster.register(shell.session, answer, public_key))


def _replicate(shell: Dialogue, given: SimpleNamespace) -> object:
    source, destination = (shell.start.chosen(name) for name in (given.source_cluster_id, given.destination_cluster_id))
    if source == destination:
        raise ToktoolsError("the source and the destination are the same cluster")
    if shell.is_single:
        for cluster_id, prefix in ((source, ""), (destination, "DESTINATION_")):
            shell.enter(shell.session_in(cluster_id), prefix)
    with shell.cluster() as cluster:
        sessions = [shell.session_in(cluster_id) for cluster_id in (source, destination)]
        user = cluster.replicate(sessions, name(given), source, destination)
    return {"user": _listed(user, destination), "message": "Successfully replicated user"}


_DEREGISTER = Option("--deregister", "", "remove the second factor")

COMMANDS = (
    Command(
        CommandLine(
            "user create",
            "Make a user. For admins.",
            "user create --username alice --role crypto-user",
            CLUSTER_ID,
            USERNAME,
            ROLE,
            PASSWORD,
            APPROVAL,
        ),
        _create,
    ),
    Command(
        CommandLine(
            "user delete",
            "Remove a user. For admins.",
            "user delete --username alice --role crypto-user",
            CLUSTER_ID,
            USERNAME,
            ROLE,
            APPROVAL,
        ),
        _delete,
    ),
    Command(
        CommandLine("user list", "List the users.", "user list", CLUSTER_ID),
        _list,
        needs_user=False,
    ),
    Command(
        CommandLine(
            "user change-password",
            "Change a password, and so unlock the user; the quorum registration goes with it.",
            "user change-password --username alice --role crypto-user",
            CLUSTER_ID,
            USERNAME,
            ROLE,
            PASSWORD,
            APPROVAL,
            Option("--deregister-mfa", "", "also remove the second factor"),
            Option("--deregister-quorum", "", "remove the quorum registration, which happens in any case"),
        ),
        _change_password,
    ),
    Command(
        CommandLine(
            "user change-mfa token-sign",
            "Register the key of a second factor, or take it away, and set the password.",
            "user change-mfa token-sign --token unsigned-tokens.json --username officer1 --role admin",
            CLUSTER_ID,
            USERNAME,
            ROLE,
            Option("--change-password", "PASSWORD", "the new password; without it, the CLI asks for it"),
            TOKEN,
            APPROVAL,
            _DEREGISTER,
            Option("--change-quorum", "", "also change the quorum key; there is one key for both"),
        ),
        _change_mfa,
        either=((TOKEN, _DEREGISTER),),
    ),
    Command(
        CommandLine(
            "user change-quorum token-sign register",
            "Register the key with which the logged-in user approves.",
            "user change-quorum token-sign register --public-key officer1.pub --signed-token registration.token",
            CLUSTER_ID,
            Option("--public-key", "PEM", "the public key", required=True),
            Option("--signed-token", "FILE", "the signed registration token", required=True),
        ),
        _register,
    ),
    Command(
        CommandLine(
            "user replicate",
            "Copy a user from a cluster to its clone. For admins of both.",
            "user replicate --username alice --role crypto-user --source-cluster-id cluster-a "
            "--destination-cluster-id cluster-b",
            USERNAME,
            ROLE,
            Option("--source-cluster-id", "ID", "the cluster that has the user", required=True),
            Option("--destination-cluster-id", "ID", "the clone", required=True),
        ),
        _replicate,
        needs_user=False,
    ),
)

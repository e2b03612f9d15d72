"""The commands that are rehearsed (AWS CloudHSM User Guide, "Reference for CloudHSM CLI commands")."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools import approvers, encoding
from toktools.errors import ToktoolsError
from toktools.options import CommandLine, Operand, Option
from toktools.rehearsal import CLUSTER_ID
from toktools.rehearsal import cluster as rules
from toktools.rehearsal.dialogue import Command, Dialogue, read, read_public_key, refuse_other

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.tokenfile import TokenFile

_VERSION = "2.0"
_STRATEGY = "mfa-token-sign"
_REGISTRATION = "registration"


def _one_of(flag: str, *choices: str) -> Option:
    """Return an option that takes one of a few words."""

    def convert(text: str) -> str:
        if text not in choices:
            raise ToktoolsError(f"{flag} takes {', '.join(choices)}")
        return text

    return Option(flag, flag[2:].upper(), ", ".join(choices), convert=convert, required=True)


_USERNAME = Option("--username", "USERNAME", "the user", convert=str.lower, required=True)
_ROLE = _one_of("--role", *approvers.ROLES)
_PASSWORD = Option("--password", "PASSWORD", "the password, which is asked for otherwise")
_APPROVAL = Option("--approval", "FILE", "the signed quorum token")
_TOKEN = Option("--token", "FILE", "where the unsigned tokens are written")


def _check_login(given: SimpleNamespace) -> None:
    if given.STRATEGY not in {None, _STRATEGY} or bool(given.STRATEGY) != bool(given.token):
        raise ToktoolsError(f"a second factor is given as {_STRATEGY} --token FILE")


def _login(shell: Dialogue, given: SimpleNamespace) -> object:
    name = _name(given)
    password = shell.password(given.password)
    if given.STRATEGY is None:
        with shell.cluster() as cluster:
            cluster.login(shell.session, name, password)
        return _shown(name)
    refuse_other(given.token)
    with shell.cluster() as cluster:
        digests = cluster.begin_mfa_login(shell.session, name, password)
    answer = _signed(shell, given.token, digests)
    with shell.cluster() as cluster:
        cluster.end_mfa_login(shell.session, answer)
    return _shown(name)


def _logout(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        cluster.logout(shell.session)
    return "Logout successful"


def _activate(shell: Dialogue, given: SimpleNamespace) -> object:
    password = shell.new_password(given.password)
    with shell.cluster() as cluster:
        cluster.activate(password)
    return "Cluster activation successful"


def _create(shell: Dialogue, given: SimpleNamespace) -> object:
    password, approval = shell.new_password(given.password), _approval(given)
    with shell.cluster() as cluster:
        cluster.create(shell.session, _name(given), password, approval)
    return _shown(_name(given))


def _delete(shell: Dialogue, given: SimpleNamespace) -> object:
    approval = _approval(given)
    with shell.cluster() as cluster:
        cluster.delete(shell.session, _name(given), approval)
    return _shown(_name(given))


def _list(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        users = list(cluster.users.values())
    listed = [_listed(user.name, locked=user.locked, mfa=user.mfa, quorum=user.quorum) for user in users]
    if not listed:
        listed = [_listed(("admin", "unactivated-admin"))]
    return {"users": [*listed, _listed(("app_user", "internal(APPLIANCE_USER)"))]}


def _listed(name: rules.Name, *, locked: bool = False, mfa: bool = False, quorum: bool = False) -> dict[str, object]:
    enabled = [{"strategy": "token-sign", "status": "enabled"}]
    return {
        **_shown(name),
        "locked": "true" if locked else "false",
        "mfa": enabled if mfa else [],
        "quorum": enabled if quorum else [],
        "cluster-coverage": "full",
    }


def _change_password(shell: Dialogue, given: SimpleNamespace) -> object:
    password, approval = shell.new_password(given.password), _approval(given)
    with shell.cluster() as cluster:
        cluster.change_password(shell.session, _name(given), password, approval, deregister_mfa=given.deregister_mfa)
    return _shown(_name(given))


def _check_change_mfa(given: SimpleNamespace) -> None:
    if bool(given.token) == given.deregister:
        raise ToktoolsError("either --token FILE or --deregister")


def _change_mfa(shell: Dialogue, given: SimpleNamespace) -> object:
    name = _name(given)
    password, approval = shell.new_password(given.change_password), _approval(given)
    if given.deregister:
        with shell.cluster() as cluster:
            cluster.deregister_mfa(shell.session, name, password, approval)
        return _shown(name)
    refuse_other(given.token)
    with shell.cluster() as cluster:
        digests = cluster.begin_mfa_change(shell.session, name, password)
    answer = _signed(shell, given.token, digests)
    public_key = shell.public_key()
    with shell.cluster() as cluster:
        cluster.end_mfa_change(shell.session, answer, public_key, approval, change_quorum=given.change_quorum)
    return _shown(name)


def _register(shell: Dialogue, given: SimpleNamespace) -> object:
    answer, public_key = read(given.signed_token), read_public_key(given.public_key)
    with shell.cluster() as cluster:
        return _shown(cluster.register(shell.session, answer, public_key))


def _generate(shell: Dialogue, given: SimpleNamespace) -> object:
    refuse_other(given.token)
    with shell.cluster() as cluster:
        if given.service == _REGISTRATION:
            tokens = [
                {"approval_data": _text(approval_data), "unsigned": _text(digest), "signed": ""}
                for approval_data, digest in cluster.begin_registration(shell.session)
            ]
            document: dict[str, object] = {"version": _VERSION, "tokens": tokens}
        else:
            approval_data, digest = cluster.generate(shell.session, given.service)
            document = {
                "version": _VERSION,
                "service": rules.SERVICES[given.service].title,
                "approval_data": _text(approval_data),
                "token": _text(digest),
                "signatures": [],
            }
        shell.write(given.token, document)
    return {"path": given.token}


def _list_tokens(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        tokens = [
            {
                "username": token.name[0],
                "service": token.service,
                "approvals-required": cluster.values[token.service],
                "number-of-approvals": 0,  # approvals come with the operation, which spends the token
                "token-timeout-seconds": cluster.seconds_left(token),
                "cluster-coverage": "full",
            }
            for token in cluster.list_tokens(shell.session)
        ]
    return {"tokens": tokens}


def _delete_tokens(shell: Dialogue, given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        cluster.delete_tokens(shell.session, everyone=given.scope == "all")
    return "Deletion of quorum token(s) successful"


def _set_value(shell: Dialogue, given: SimpleNamespace) -> object:
    approval = _approval(given)
    with shell.cluster() as cluster:
        cluster.set_value(shell.session, given.service, given.value, approval)
    return "Set Quorum Value successful"


def _list_values(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        return dict(cluster.values)


def _value(text: str) -> int:
    if text not in map(str, range(100)):
        raise ToktoolsError("--value is a number")
    return int(text)


def _name(given: SimpleNamespace) -> rules.Name:
    return (given.username, given.role)


def _shown(name: rules.Name) -> dict[str, object]:
    return {"username": name[0], "role": name[1]}


def _approval(given: SimpleNamespace) -> TokenFile | None:
    return None if given.approval is None else read(given.approval)


def _signed(shell: Dialogue, path: str, digests: Sequence[bytes]) -> TokenFile:
    """Write the digests of a login or a set-up, and return the file that comes back signed."""
    tokens = [{"unsigned": _text(digest), "signed": ""} for digest in digests]
    shell.write(path, {"version": _VERSION, "tokens": tokens})
    return shell.signed_file(path)


def _text(content: bytes) -> str:
    return encoding.encode(content).decode()


COMMANDS = (
    Command(
        CommandLine(
            "cluster activate",
            "Make the first admin, whose name is admin.",
            "cluster activate",
            CLUSTER_ID,
            _PASSWORD,
        ),
        _activate,
        needs_user=False,
    ),
    Command(
        CommandLine(
            "login",
            "Log in.",
            "login --username officer1 --role admin mfa-token-sign --token unsigned-tokens.json",
            CLUSTER_ID,
            _USERNAME,
            _ROLE,
            _PASSWORD,
            Operand("STRATEGY", f"{_STRATEGY}: with a second factor", usage=f"[{_STRATEGY}]"),
            _TOKEN,
        ),
        _login,
        check=_check_login,
        needs_user=False,
    ),
    Command(CommandLine("logout", "Log out.", "logout", CLUSTER_ID), _logout),
    Command(
        CommandLine(
            "user create",
            "Make a user. For admins.",
            "user create --username alice --role crypto-user",
            CLUSTER_ID,
            _USERNAME,
            _ROLE,
            _PASSWORD,
            _APPROVAL,
        ),
        _create,
    ),
    Command(
        CommandLine(
            "user delete",
            "Remove a user. For admins.",
            "user delete --username alice --role crypto-user",
            CLUSTER_ID,
            _USERNAME,
            _ROLE,
            _APPROVAL,
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
            _USERNAME,
            _ROLE,
            _PASSWORD,
            _APPROVAL,
            Option("--deregister-mfa", "", "take the second factor away too"),
            Option("--deregister-quorum", "", "take the quorum registration away, which goes in any case"),
        ),
        _change_password,
    ),
    Command(
        CommandLine(
            "user change-mfa token-sign",
            "Register the key of a second factor, or take it away, and set the password.",
            "user change-mfa token-sign --token unsigned-tokens.json --username officer1 --role admin",
            CLUSTER_ID,
            _USERNAME,
            _ROLE,
            Option("--change-password", "PASSWORD", "the new password, which is asked for otherwise"),
            _TOKEN,
            _APPROVAL,
            Option("--deregister", "", "take the second factor away"),
            Option("--change-quorum", "", "change the quorum key too, since there is one key for both"),
        ),
        _change_mfa,
        check=_check_change_mfa,
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
            "quorum token-sign generate",
            "Write a token for others to approve, or for a registration.",
            "quorum token-sign generate --service user --token admin.token",
            CLUSTER_ID,
            _one_of("--service", *rules.SERVICES, _REGISTRATION),
            Option("--token", "FILE", "where the token is written", required=True),
        ),
        _generate,
    ),
    Command(
        CommandLine("quorum token-sign list", "List the quorum tokens.", "quorum token-sign list", CLUSTER_ID),
        _list_tokens,
    ),
    Command(
        CommandLine(
            "quorum token-sign delete",
            "Delete quorum tokens. For admins.",
            "quorum token-sign delete --scope user",
            CLUSTER_ID,
            _one_of("--scope", "user", "all"),
        ),
        _delete_tokens,
    ),
    Command(
        CommandLine(
            "quorum token-sign set-quorum-value",
            "Set how many must approve. For admins.",
            "quorum token-sign set-quorum-value --service user --value 2",
            CLUSTER_ID,
            _one_of("--service", *rules.SERVICES),
            Option("--value", "N", "how many", convert=_value, required=True),
            _APPROVAL,
        ),
        _set_value,
    ),
    Command(
        CommandLine(
            "quorum token-sign list-quorum-values",
            "List how many must approve.",
            "quorum token-sign list-quorum-values",
            CLUSTER_ID,
        ),
        _list_values,
        needs_user=False,
    ),
)

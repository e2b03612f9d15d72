"""The CLI's commands for quorum tokens and quorum values."""

from __future__ import annotations

from types import SimpleNamespace

from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import CommandLine, Option
from toktools.rehearsal.dialogue import refuse_other
from toktools.rehearsal.groups.shared import APPROVAL, CLUSTER_ID, FILTER, VERSION, approval, filters, number, text
from toktools.rehearsal.quorum import KEY_SERVICES, SERVICES
from toktools.rehearsal.syntax import Choice, Command, Several

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue

_REGISTRATION = "registration"
_ABOUT = {
    "user": "managing the users",
    "quorum": "setting quorum values",
    "cluster": "settings of the cluster as a whole: mutual TLS",
    _REGISTRATION: "registering the key with which a user approves",
    "key-usage": "working with a key that has a quorum value",
    "key-management": "sharing a key that has a quorum value, and the like",
}


def _registration(shell: Dialogue) -> dict[str, object]:
    with shell.cluster() as cluster:
        tokens = cluster.begin_registration(shell.session)
    document: dict[str, object] = {
        "version": VERSION,
        "tokens": [
            {"approval_data": text(approval_data), "unsigned": text(digest), "signed": ""}
            for approval_data, digest in tokens
        ],
    }
    if shell.start.registration_signatures and shell.session.name:
        username, role = shell.session.name
        document["signatures"] = [{"username": username, "role": role, "signature": ""}]
    return document


def _generate(shell: Dialogue, given: SimpleNamespace) -> object:
    refuse_other(given.token)
    if given.service == _REGISTRATION:
        shell.write(given.token, _registration(shell))
        return {"filepath": given.token}
    with shell.cluster() as cluster:
        about: dict[str, object] = {}
        if given.service in KEY_SERVICES:
            key, approval_data, digest = cluster.generate_for(shell.session, given.service, filters(given.filter))
            about = {"service": KEY_SERVICES[given.service].title, "key_reference": key.name}
        else:
            approval_data, digest = cluster.generate(shell.session, given.service)
            about = {"service": SERVICES[given.service].title}
        signing = {"approval_data": text(approval_data), "token": text(digest), "signatures": []}
        shell.write(given.token, {"version": VERSION, **about, **signing})
    return {"filepath": given.token}


def _check_generate(given: SimpleNamespace) -> None:
    if bool(given.filter) != (given.service in KEY_SERVICES):
        raise ToktoolsError("--filter names the key, and is only for the key services")


def _list_tokens(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        found = cluster.list_tokens(shell.session)
        tokens: list[dict[str, object]] = [
            {
                "username": token.name[0],
                "service": token.service,
                "approvals-required": cluster.values[token.service],
                "number-of-approvals": 0,  # approvals come with the operation, which spends the token
                "token-timeout-seconds": cluster.seconds_left(token),
                "cluster-coverage": "full",
            }
            for token in found
            if not token.key_reference
        ]
    of_keys = [(token.name[0], token.service, token.key_reference) for token in found if token.key_reference]
    for username, service, reference in dict.fromkeys(of_keys):
        tokens.append(
            {
                "username": username,
                "service": service,
                "key-reference": f"0x{reference:016x}",
                "minimum-token-count": of_keys.count((username, service, reference)),
            }
        )
    return {"tokens": tokens}


def _delete_tokens(shell: Dialogue, given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        cluster.delete_tokens(shell.session, everyone=given.scope == "all")
    return "Deletion of quorum token(s) successful"


def _set_value(shell: Dialogue, given: SimpleNamespace) -> object:
    approved = approval(given)
    with shell.cluster() as cluster:
        cluster.set_value(shell.session, given.service, given.value, approved)
    return "Set Quorum Value successful"


def _list_values(shell: Dialogue, _given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        return dict(cluster.values)


_FILTER = Several("--filter", "FILTER", f"for a key service: {FILTER.about}")

COMMANDS = (
    Command(
        CommandLine(
            "quorum token-sign generate",
            "Write a token for others to approve, or for a registration.",
            "quorum token-sign generate --service user --token admin.token",
            CLUSTER_ID,
            Choice("--service", "what the token is for", _ABOUT),
            Option("--token", "FILE", "the file for the token", required=True),
            _FILTER,
        ),
        _generate,
        check=_check_generate,
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
            Choice("--scope", "whose tokens", {"user": "one's own", "all": "everybody's"}),
        ),
        _delete_tokens,
    ),
    Command(
        CommandLine(
            "quorum token-sign set-quorum-value",
            "Set how many must approve. For admins.",
            "quorum token-sign set-quorum-value --service user --value 2",
            CLUSTER_ID,
            Choice("--service", "what is approved", {name: _ABOUT[name] for name in SERVICES}),
            Option("--value", "N", "how many", convert=number("--value"), required=True),
            APPROVAL,
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

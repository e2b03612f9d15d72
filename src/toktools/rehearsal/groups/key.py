"""The CLI's commands for keys: making, listing, sharing and deleting them."""

from __future__ import annotations

from types import SimpleNamespace

from toktools.errors import ToktoolsError
from toktools.rehearsal.commandline import CommandLine, Option
from toktools.rehearsal.groups.shared import (
    APPROVAL,
    CLUSTER_ID,
    FILTER,
    ROLE,
    USERNAME,
    approval,
    filters,
    name,
    number,
)
from toktools.rehearsal.keyring import Key, Pair, choices
from toktools.rehearsal.syntax import Command, Several

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.rehearsal.dialogue import Dialogue

_PAGE = 10


def _generate(shell: Dialogue, given: SimpleNamespace) -> object:
    wanted = Pair(
        given.public_label,
        given.private_label,
        given.modulus_size_bits,
        given.public_exponent,
        _chosen(given.public_attributes),
        _chosen(given.private_attributes),
        given.share_crypto_users,
        given.manage_private_key_quorum_value,
        given.use_private_key_quorum_value,
        session=given.session,
    )
    with shell.cluster() as cluster:
        public, private = cluster.generate_pair(shell.session, wanted)
    return {"public_key": _listed(public), "private_key": _listed(private)}


def _chosen(words: list[str]) -> dict[str, bool]:
    try:
        return dict(choices(words))
    except ValueError as error:
        raise ToktoolsError(str(error)) from None


def _check_generate(given: SimpleNamespace) -> None:
    _chosen(given.public_attributes)
    _chosen(given.private_attributes)


def _listed(key: Key) -> dict[str, object]:
    return {
        "key-reference": key.name,
        "key-info": {
            "key-owners": [{"username": key.owner, "key-coverage": "full"}],
            "shared-users": [{"username": username, "key-coverage": "full"} for username in key.shared],
            "key-quorum-values": {"manage-key-quorum-value": key.manage, "use-key-quorum-value": key.use},
            "cluster-coverage": "full",
        },
        "attributes": key.attributes,
    }


def _list(shell: Dialogue, given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        found = cluster.matching(shell.session, filters(given.filter))
        is_admin = cluster.is_admin(shell.session)
    end = given.starting_token + given.max_items
    page = found[given.starting_token : end]
    brief = is_admin or not (given.verbose or given.v)
    return {
        "matched_keys": [
            {"key-reference": key.name, "attributes": {"label": key.label}} if brief else _listed(key) for key in page
        ],
        "total_key_count": len(found),
        "returned_key_count": len(page),
        **({"next_token": str(end)} if end < len(found) else {}),
    }


def _share(shell: Dialogue, given: SimpleNamespace) -> object:
    approved = approval(given)
    with shell.cluster() as cluster:
        cluster.share(shell.session, filters(given.filter), name(given), approved)
    return {"message": "Key shared successfully"}


def _unshare(shell: Dialogue, given: SimpleNamespace) -> object:
    approved = approval(given)
    with shell.cluster() as cluster:
        cluster.unshare(shell.session, filters(given.filter), name(given), approved)
    return {"message": "Key unshared successfully"}


def _delete(shell: Dialogue, given: SimpleNamespace) -> object:
    with shell.cluster() as cluster:
        cluster.delete_key(shell.session, filters(given.filter))
    return {"message": "Key deleted successfully"}


def _check_filters(given: SimpleNamespace) -> None:
    filters(given.filter)


def _number(flag: str, about: str, default: int | None = None) -> Option:
    return Option(flag, "N", about, convert=number(flag), default=default, required=default is None)


_V = Option("-v", "", "the same as --verbose")
_EXAMPLE = "key share --filter attr.label=rsa-private attr.class=private-key --username alice --role crypto-user"

COMMANDS = (
    Command(
        CommandLine(
            "key generate-asymmetric-pair rsa",
            "Make an RSA key pair. For crypto users.",
            "key generate-asymmetric-pair rsa --public-exponent 65537 --modulus-size-bits 2048 "
            "--public-label rsa-public --private-label rsa-private --private-attributes sign=true",
            CLUSTER_ID,
            Option("--public-label", "LABEL", "the label of the public key", required=True),
            Option("--private-label", "LABEL", "the label of the private key", required=True),
            Option("--session", "", "keys that end with the login"),
            _number("--modulus-size-bits", "the size of the modulus: 2048, 3072 or 4096"),
            _number("--public-exponent", "the public exponent: 65537"),
            Several(
                "--public-attributes", "PUBLIC_KEY_ATTRIBUTES", "attributes of the public key, such as verify=true"
            ),
            Several(
                "--private-attributes", "PRIVATE_KEY_ATTRIBUTES", "attributes of the private key, such as sign=true"
            ),
            Several("--share-crypto-users", "SHARE_CRYPTO_USERS", "crypto users with whom the private key is shared"),
            _number("--manage-private-key-quorum-value", "how many must approve its management", 0),
            _number("--use-private-key-quorum-value", "how many must approve its use", 0),
        ),
        _generate,
        check=_check_generate,
    ),
    Command(
        CommandLine(
            "key list",
            "List the keys that the user owns or shares, and all public keys.",
            "key list --filter attr.label=rsa-private --verbose",
            CLUSTER_ID,
            Several("--filter", "FILTER", "the keys that fit key-reference=0x... or all of attr.NAME=VALUE"),
            _number("--max-items", "how many to list", _PAGE),
            _number("--starting-token", "where to go on: the next_token of a list before", 0),
            Option("--verbose", "", "all attributes"),
            _V,
        ),
        _list,
        check=_check_filters,
        hidden=(_V,),
    ),
    Command(
        CommandLine("key share", "Share a key. For its owner.", _EXAMPLE, CLUSTER_ID, FILTER, USERNAME, ROLE, APPROVAL),
        _share,
        check=_check_filters,
    ),
    Command(
        CommandLine(
            "key unshare",
            "Take a key from a user with whom it is shared. For its owner.",
            _EXAMPLE.replace("share", "unshare"),
            CLUSTER_ID,
            FILTER,
            USERNAME,
            ROLE,
            APPROVAL,
        ),
        _unshare,
        check=_check_filters,
    ),
    Command(
        CommandLine(
            "key delete",
            "Delete a key. For its owner.",
            "key delete --filter attr.label=rsa-public",
            CLUSTER_ID,
            FILTER,
        ),
        _delete,
        check=_check_filters,
    ),
)

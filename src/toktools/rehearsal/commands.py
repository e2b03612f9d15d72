"""The commands of the CloudHSM CLI (AWS CloudHSM User Guide, "Reference for CloudHSM CLI commands")."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from toktools import encoding, prompts
from toktools.errors import ToktoolsError
from toktools.keys.files import parse_public_key, pem
from toktools.rehearsal import keys
from toktools.rehearsal.cluster import KEY_SERVICES, REGISTRATION, SERVICES, Cluster, Name, User, refusal, seconds_left
from toktools.rehearsal.shell import Option, Parser, Shell, option
from toktools.system import files
from toktools.system.atomic import write_atomically
from toktools.tokens import approvals, jsonfile, kinds, tokenfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_KEY = 1 << 16
"""Bytes of a public key."""

CLI = Parser(prog="", description="A stand-in for the CloudHSM CLI. quit, or exit, ends it.")


# Options


def _filter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name != "key-reference" and not name.startswith("attr."):
        raise ArgumentTypeError("a filter is key-reference=0x... or attr.NAME=VALUE")
    return name, value


def _attribute(text: str) -> tuple[str, bool]:
    name, _, value = text.partition("=")
    if value not in {"true", "false"}:
        raise ArgumentTypeError("an attribute is NAME=true or NAME=false")
    return name, value == "true"


def _several(flag: str, convert: Callable[[str], object], **settings: Any) -> Option:  # noqa: ANN401
    """Return an option that takes every word up to the next option."""
    return option(flag, type=convert, action="extend", nargs="+", default=[], **settings)


_USER = (
    option("--username", help="The user", required=True, type=str.lower),
    option("--role", help=f"The user's role: {' or '.join(approvals.ROLES)}", required=True, choices=approvals.ROLES),
)
_PASSWORD = option("--password", help="The password; without it, the CLI asks for it")
_APPROVAL = option("--approval", help="The signed quorum token")
_FITS = "with key-reference=0x... or all of attr.NAME=VALUE"
_KEYS = _several("--filter", _filter, help=f"The keys {_FITS}")
_KEY = _several("--filter", _filter, help=f"The one key {_FITS}", required=True)


# Files


@contextmanager
def _answered() -> Iterator[None]:
    """Turn an error with a file that the user named into the command's answer."""
    try:
        yield
    except ToktoolsError as error:
        raise refusal(error.message) from None


def _read_token(path: str) -> tokenfile.TokenFile:
    with _answered():
        return tokenfile.read(path)[1]


def _write_token(path: str, document: dict[str, object]) -> None:
    """Write a token file, and replace only a token file, so that a typing error does not cost a key."""
    content = jsonfile.dump_ascii({"version": kinds.VERSION, **document})
    with _answered():
        write_atomically(path, [content], may_replace=tokenfile.may_replace)


def _read_public_key(path: str) -> str:
    """Read a public key as AWS asks for it, PEM with BEGIN PUBLIC KEY, and return it in that format."""
    with _answered():
        file = files.read(path, _MAX_KEY)
        if b"-----BEGIN PUBLIC KEY-----" not in file.content:
            raise ToktoolsError(f"{file.name}: not a public key in PEM, as openssl rsa -pubout writes it")
        return pem(parse_public_key(file.content, file.name))


# Parts of answers


def _name(arguments: Namespace) -> Name:
    return arguments.username, arguments.role


def _user_data(name: Name) -> dict[str, object]:
    return {"username": name[0], "role": name[1]}


def _approval(arguments: Namespace) -> tokenfile.TokenFile | None:
    return None if arguments.approval is None else _read_token(arguments.approval)


def _text(content: bytes) -> str:
    return encoding.encode(content).decode()


# cluster, login, logout


@CLI.command("cluster activate", "Make the first admin, named admin", _PASSWORD)
def _activate(shell: Shell, arguments: Namespace) -> object:
    password = shell.new_password(arguments.password)
    with shell.cluster() as cluster:
        cluster.activate(password)
    return "Cluster activation successful"


@CLI.command("cluster hsm-info", "List the HSMs")
def _hsm_info(shell: Shell, _arguments: Namespace) -> object:
    # AWS's values for hsm2m.medium are not known; the names of the members are those of its page.
    return {
        "hsms": [
            {
                "vendor": "toktools",
                "model": "no HSM: a rehearsal",
                "serial-number": f"rehearsal-{number}",
                "hardware-version-major": "0",
                "hardware-version-minor": "0",
                "firmware-version-major": "0",
                "firmware-version-minor": "0",
                "firmware-build-number": "0",
                "firmware-id": "REHEARSAL",
                "fips-state": "0 [non-FIPS mode with single factor authentication]",
            }
            for number in range(1, shell.options.hsms + 1)
        ]
    }


@CLI.command("login", "Log in", *_USER, _PASSWORD)
def _login(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.login, _name(arguments), shell.password(arguments.password))
    return _user_data(_name(arguments))


_TOKEN = option("--token", help="The file for the unsigned tokens", required=True)


@CLI.command("login mfa-token-sign", "Log in with a second factor", _TOKEN)
def _mfa_login(shell: Shell, arguments: Namespace) -> object:
    name, password = _name(arguments), shell.password(arguments.password)
    digests = shell.call(Cluster.check_mfa_login, name, password)
    shell.call(Cluster.mfa_login, name, password, digests, _signed(shell, arguments.token, digests))
    return _user_data(name)


def _signed(shell: Shell, path: str, digests: Sequence[bytes]) -> tokenfile.TokenFile:
    """Write the digests of a login or a set-up, and return the signed file."""
    tokens = [{"unsigned": _text(digest), "signed": ""} for digest in digests]
    _write_token(path, {"tokens": tokens})
    return _read_token(shell.terminal.ask(prompts.SIGNED_FILE).strip() or path)


@CLI.command("logout", "Log out")
def _logout(shell: Shell, _arguments: Namespace) -> object:
    shell.call(Cluster.logout)
    return "Logout successful"


# user


@CLI.command("user create", "Make a user. For admins", *_USER, _PASSWORD, _APPROVAL)
def _create(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.create, _name(arguments), shell.new_password(arguments.password), _approval(arguments))
    return _user_data(_name(arguments))


@CLI.command("user delete", "Remove a user. For admins", *_USER, _APPROVAL)
def _delete(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.delete, _name(arguments), _approval(arguments))
    return _user_data(_name(arguments))


@CLI.command("user list", "List the users")
def _list(shell: Shell, _arguments: Namespace) -> object:
    with shell.cluster() as cluster:
        users = list(cluster.users.values()) or [User("admin", "unactivated-admin")]
    enabled = [{"strategy": "token-sign", "status": "enabled"}]
    return {
        "users": [
            {
                **_user_data(user.name),
                "locked": "true" if user.locked else "false",
                "mfa": enabled if user.mfa else [],
                "quorum": enabled if user.quorum else [],
                "cluster-coverage": "full",
            }
            for user in [*users, User("app_user", "internal(APPLIANCE_USER)")]
        ]
    }


@CLI.command(
    "user change-password",
    "Change a password, and so unlock the user; the quorum registration goes with it",
    *_USER,
    _PASSWORD,
    _APPROVAL,
    option("--deregister-mfa", help="Also remove the second factor", action="store_true"),
    option("--deregister-quorum", help="Remove the quorum registration; without it too", action="store_true"),
)
def _change_password(shell: Shell, arguments: Namespace) -> object:
    password, approval = shell.new_password(arguments.password), _approval(arguments)
    shell.call(Cluster.change_password, _name(arguments), password, approval, deregister_mfa=arguments.deregister_mfa)
    return _user_data(_name(arguments))


@CLI.command(
    "user change-mfa token-sign",
    "Register the key of a second factor, or take it away, and set the password",
    *_USER,
    option("--change-password", help="The new password; without it, the CLI asks for it"),
    option("--token", help="The file for the unsigned tokens"),
    _APPROVAL,
    option("--deregister", help="Remove the second factor; instead of --token", action="store_true"),
    option("--change-quorum", help="Also change the quorum key; there is one key for both", action="store_true"),
)
def _change_mfa(shell: Shell, arguments: Namespace) -> object:
    if bool(arguments.token) == arguments.deregister:
        raise refusal("either --token or --deregister is needed")
    name = _name(arguments)
    password, approval = shell.new_password(arguments.change_password), _approval(arguments)
    if arguments.deregister:
        shell.call(Cluster.deregister_mfa, name, password, approval)
        return _user_data(name)
    digests = shell.call(Cluster.check_mfa_change, name, password)
    answer = _signed(shell, arguments.token, digests)
    public_key = _read_public_key(shell.terminal.ask(prompts.PUBLIC_KEY).strip())
    shell.call(
        *(Cluster.change_mfa, name, password, digests, answer, public_key, approval),
        change_quorum=arguments.change_quorum,
    )
    return _user_data(name)


@CLI.command(
    "user change-quorum token-sign register",
    "Register the key with which the logged-in user approves",
    option("--public-key", help="The public key", required=True),
    option("--signed-token", help="The signed registration token", required=True),
)
def _register(shell: Shell, arguments: Namespace) -> object:
    answer, public_key = _read_token(arguments.signed_token), _read_public_key(arguments.public_key)
    return _user_data(shell.call(Cluster.register, answer, public_key))


# quorum


@CLI.command(
    "quorum token-sign generate",
    "Write a token for others to approve, or for a registration",
    option("--service", help="What the token is for", required=True, choices=[*SERVICES, REGISTRATION, *KEY_SERVICES]),
    option("--token", help="The file for the token", required=True),
    _KEYS,
)
def _generate_token(shell: Shell, arguments: Namespace) -> object:
    service = arguments.service
    if bool(arguments.filter) != (service in KEY_SERVICES):
        raise refusal("--filter names the key, and is only for the key services")
    document: dict[str, object] = {}
    with shell.cluster() as cluster:
        if service == REGISTRATION:
            document["tokens"] = [
                {"approval_data": _text(approval_data), "unsigned": _text(digest), "signed": ""}
                for approval_data, digest in cluster.begin_registration(shell.session)
            ]
            if shell.options.registration_signatures:
                user = _user_data(cluster.member(shell.session))
                document["signatures"] = [{**user, "signature": ""}]
        else:
            document["service"] = SERVICES.get(service, service)
            if service in KEY_SERVICES:
                key, approval_data, digest = keys.generate_token(cluster, shell.session, service, arguments.filter)
                document["key_reference"] = key.name
            else:
                approval_data, digest = cluster.generate(shell.session, service)
            document.update(approval_data=_text(approval_data), token=_text(digest), signatures=[])
        _write_token(arguments.token, document)  # before the state: a token that was not written does not count
    return {"filepath": arguments.token}


@CLI.command("quorum token-sign list", "List the quorum tokens")
def _list_tokens(shell: Shell, _arguments: Namespace) -> object:
    with shell.cluster() as cluster:
        found = cluster.live_tokens()
        tokens: list[dict[str, object]] = [
            {
                "username": token.username,
                "service": token.service,
                "approvals-required": cluster.values[token.service],
                "number-of-approvals": 0,  # approvals come with the operation, which spends the token
                "token-timeout-seconds": seconds_left(token),
                "cluster-coverage": "full",
            }
            for token in found
            if not token.key_reference
        ]
    of_keys = Counter((token.username, token.service, token.key_reference) for token in found if token.key_reference)
    for (username, service, reference), count in of_keys.items():
        key = {"key-reference": f"0x{reference:016x}", "minimum-token-count": count}
        tokens.append({"username": username, "service": service, **key})
    return {"tokens": tokens}


_SCOPE = option("--scope", help="Whose tokens: one's own, or everybody's", required=True, choices=["user", "all"])


@CLI.command("quorum token-sign delete", "Delete quorum tokens. For admins", _SCOPE)
def _delete_tokens(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.delete_tokens, everyone=arguments.scope == "all")
    return "Deletion of quorum token(s) successful"


@CLI.command(
    "quorum token-sign set-quorum-value",
    "Set how many must approve. For admins",
    option("--service", help="What is approved", required=True, choices=list(SERVICES)),
    option("--value", help="How many", required=True, type=int),
    _APPROVAL,
)
def _set_value(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.set_value, arguments.service, arguments.value, _approval(arguments))
    return "Set Quorum Value successful"


@CLI.command("quorum token-sign list-quorum-values", "List how many must approve")
def _list_values(shell: Shell, _arguments: Namespace) -> object:
    with shell.cluster() as cluster:
        return cluster.values


# key, crypto


@CLI.command(
    "key generate-asymmetric-pair rsa",
    "Make an RSA key pair. For crypto users",
    option("--public-label", help="The label of the public key", required=True),
    option("--private-label", help="The label of the private key", required=True),
    option("--modulus-size-bits", help="2048, 3072 or 4096", required=True, type=int, choices=keys.SIZES),
    option("--public-exponent", help=f"{keys.EXPONENT}", required=True, type=int, choices=[keys.EXPONENT]),
    _several("--public-attributes", _attribute, help="Such as verify=true"),
    _several("--private-attributes", _attribute, help="Such as sign=true"),
    _several("--share-crypto-users", str.lower, help="Crypto users with whom the private key is shared"),
    option("--manage-private-key-quorum-value", help="How many must approve its management", default=0, type=int),
    option("--use-private-key-quorum-value", help="How many must approve its use", default=0, type=int),
)
def _generate_pair(shell: Shell, arguments: Namespace) -> object:
    public, private = shell.call(keys.generate_pair, arguments)
    return {"public_key": _key_data(public), "private_key": _key_data(private)}


def _key_data(key: keys.Key) -> dict[str, object]:
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


@CLI.command(
    "key list",
    "List the keys that the user owns or shares, and all public keys",
    _KEYS,
    option("--verbose", "-v", help="All attributes", action="store_true"),
)
def _list_keys(shell: Shell, arguments: Namespace) -> object:
    found = shell.call(keys.matching, arguments.filter)
    listed = [_key_data(key) for key in found]
    if not arguments.verbose:
        listed = [{"key-reference": key.name, "attributes": {"label": key.attributes["label"]}} for key in found]
    return {"matched_keys": listed, "total_key_count": len(found), "returned_key_count": len(found)}


@CLI.command("key share", "Share a key. For its owner", _KEY, *_USER, _APPROVAL)
def _share(shell: Shell, arguments: Namespace) -> object:
    shell.call(keys.share, arguments.filter, _name(arguments), _approval(arguments))
    return {"message": "Key shared successfully"}


@CLI.command("key unshare", "Take a key from a user who shares it. For its owner", _KEY, *_USER, _APPROVAL)
def _unshare(shell: Shell, arguments: Namespace) -> object:
    shell.call(keys.unshare, arguments.filter, _name(arguments), _approval(arguments))
    return {"message": "Key unshared successfully"}


@CLI.command("key delete", "Delete a key. For its owner", _KEY)
def _delete_key(shell: Shell, arguments: Namespace) -> object:
    shell.call(keys.delete, arguments.filter)
    return {"message": "Key deleted successfully"}


@CLI.command(
    "crypto sign rsa-pkcs",
    "Sign with RSA-PKCS. For crypto users",
    _several("--key-filter", _filter, help=f"The one key {_FITS}", required=True),
    option("--hash-function", help="What the data is hashed with", required=True, choices=list(keys.HASHES)),
    option("--data", help="The data in base64", required=True),
    _APPROVAL,
)
def _sign(shell: Shell, arguments: Namespace) -> object:
    approval = _approval(arguments)
    with _answered():
        content = encoding.decode(arguments.data.encode(errors="replace"))
    key, signature = shell.call(keys.sign, arguments.key_filter, arguments.hash_function, content, approval)
    return {"key-reference": key.name, "signature": _text(signature)}

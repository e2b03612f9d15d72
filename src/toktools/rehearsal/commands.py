"""The commands of the CloudHSM CLI (AWS CloudHSM User Guide, "Reference for CloudHSM CLI commands")."""

from __future__ import annotations

import hashlib
from argparse import ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Callable, Sequence

from toktools import encoding, prompts
from toktools.errors import ToktoolsError
from toktools.keys.files import parse_public_key, pem
from toktools.rehearsal import keys
from toktools.rehearsal.cluster import (
    ADMIN,
    CRYPTO_USER,
    KEY_SERVICES,
    SERVICES,
    Cluster,
    Name,
    User,
    refusal,
    seconds_left,
)
from toktools.rehearsal.shell import Option, Parser, Shell
from toktools.system import files
from toktools.system.atomic import write_atomically
from toktools.tokens import jsonfile, kinds, tokenfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_DATA = 1 << 20
_MAX_KEY = 1 << 16
_REGISTRATION = "registration"


# Options


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ArgumentTypeError("not a number")
    return int(text)


def _filter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name != "key-reference" and not name.startswith("attr."):
        raise ArgumentTypeError("a filter is key-reference=0x... or attr.NAME=VALUE")
    return name, value


def _attribute(text: str) -> tuple[str, bool]:
    name, _, value = text.partition("=")
    if name not in keys.CHOSEN or value not in {"true", "false"}:
        raise ArgumentTypeError(f"an attribute is one of {', '.join(keys.CHOSEN)}, with =true or =false")
    return name, value == "true"


def _flag(flags: str, about: str, *, either: bool = False) -> Option:
    return Option(flags, about, either=either, action="store_true")


def _several(flag: str, about: str, convert: Callable[[str], object], **settings: Any) -> Option:  # noqa: ANN401
    """Return an option that takes all words up to the next option."""
    return Option(flag, about, type=convert, action="extend", nargs="+", default=[], **settings)


def _attributes(half: str, example: str) -> Option:
    about = f"Attributes of the {half} key, such as {example}"
    return _several(f"--{half}-attributes", about, _attribute, metavar=f"{half.upper()}_KEY_ATTRIBUTES")


_USER = (
    Option("--username", "The user", required=True, type=str.lower),
    Option(
        "--role",
        "The user's role",
        required=True,
        choices={ADMIN: "manages the users of the cluster", CRYPTO_USER: "owns keys, and works with them"},
    ),
)
_PASSWORD = Option("--password", "The password; without it, the CLI asks for it")
_APPROVAL = Option("--approval", "The signed quorum token")
_FITS = "key-reference=0x... or all of attr.NAME=VALUE"
_SERVICES = {
    "user": "managing the users",
    "quorum": "setting quorum values",
    "cluster": "settings of the cluster as a whole",
    _REGISTRATION: "registering the key with which a user approves",
    "key-usage": "working with a key that has a quorum value",
    "key-management": "sharing a key that has a quorum value, and the like",
}


# Files


def _path(name: str) -> str:
    """Return the path of a file that a user names; - is a name like any other here."""
    return "./-" if name == "-" else name


def _read_token(path: str) -> tokenfile.TokenFile:
    """Read a token file."""
    return tokenfile.read(_path(path))[1]


def _write_token(path: str, document: dict[str, object]) -> None:
    """Write a token file; it may replace no other file, so that a typing error does not cost a key."""
    content = {"version": kinds.VERSION, **document}
    write_atomically({path: jsonfile.dump_ascii(content)}, may_replace=tokenfile.may_replace)


def _read_public_key(path: str) -> str:
    """Read a public key as AWS asks for it, PEM with BEGIN PUBLIC KEY, and return it in that form."""
    file = files.read(_path(path), _MAX_KEY)
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


def _activate(shell: Shell, arguments: Namespace) -> object:
    password = shell.new_password(arguments.password)
    with shell.cluster() as cluster:
        cluster.activate(password)
    return "Cluster activation successful"


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
            for number in range(1, shell.hsms + 1)
        ]
    }


def _login(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.login, _name(arguments), shell.password(arguments.password))
    return _user_data(_name(arguments))


def _mfa_login(shell: Shell, arguments: Namespace) -> object:
    password = shell.password(arguments.password)
    digests = shell.call(Cluster.begin_mfa_login, _name(arguments), password)
    shell.call(Cluster.end_mfa_login, _signed(shell, arguments.token, digests))
    return _user_data(_name(arguments))


def _signed(shell: Shell, path: str, digests: Sequence[bytes]) -> tokenfile.TokenFile:
    """Write the digests of a login or a set-up, and return the file that comes back signed."""
    tokens = [{"unsigned": _text(digest), "signed": ""} for digest in digests]
    _write_token(path, {"tokens": tokens})
    return _read_token(shell.terminal.ask(prompts.SIGNED_FILE).strip() or path)


def _logout(shell: Shell, _arguments: Namespace) -> object:
    shell.call(Cluster.logout)
    return "Logout successful"


# user


def _create(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.create, _name(arguments), shell.new_password(arguments.password), _approval(arguments))
    return _user_data(_name(arguments))


def _delete(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.delete, _name(arguments), _approval(arguments))
    return _user_data(_name(arguments))


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


def _change_password(shell: Shell, arguments: Namespace) -> object:
    password, approval = shell.new_password(arguments.password), _approval(arguments)
    shell.call(Cluster.change_password, _name(arguments), password, approval, deregister_mfa=arguments.deregister_mfa)
    return _user_data(_name(arguments))


def _change_mfa(shell: Shell, arguments: Namespace) -> object:
    name = _name(arguments)
    password, approval = shell.new_password(arguments.change_password), _approval(arguments)
    if arguments.deregister:
        shell.call(Cluster.deregister_mfa, name, password, approval)
    else:
        answer = _signed(shell, arguments.token, shell.call(Cluster.begin_mfa_change, name, password))
        public_key = _read_public_key(shell.terminal.ask(prompts.PUBLIC_KEY).strip())
        shell.call(Cluster.end_mfa_change, answer, public_key, approval, change_quorum=arguments.change_quorum)
    return _user_data(name)


def _register(shell: Shell, arguments: Namespace) -> object:
    answer, public_key = _read_token(arguments.signed_token), _read_public_key(arguments.public_key)
    return _user_data(shell.call(Cluster.register, answer, public_key))


# quorum


def _generate_token(shell: Shell, arguments: Namespace) -> object:
    service = arguments.service
    if bool(arguments.filter) != (service in KEY_SERVICES):
        raise refusal("--filter names the key, and is only for the key services")
    document: dict[str, object] = {}
    with shell.cluster() as cluster:
        if service == _REGISTRATION:
            document["tokens"] = [
                {"approval_data": _text(approval_data), "unsigned": _text(digest), "signed": ""}
                for approval_data, digest in cluster.begin_registration(shell.session)
            ]
            if shell.registration_signatures:
                user = _user_data(cluster.member(shell.session))
                document["signatures"] = [{**user, "signature": ""}]
        else:
            document["service"] = {**SERVICES, **KEY_SERVICES}[service].title
            if service in KEY_SERVICES:
                key, approval_data, digest = keys.generate_token(cluster, shell.session, service, arguments.filter)
                document["key_reference"] = key.name
            else:
                approval_data, digest = cluster.generate(shell.session, service)
            document.update(approval_data=_text(approval_data), token=_text(digest), signatures=[])
        _write_token(arguments.token, document)  # before the state: a token that was not written does not count
    return {"filepath": arguments.token}


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


def _delete_tokens(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.delete_tokens, everyone=arguments.scope == "all")
    return "Deletion of quorum token(s) successful"


def _set_value(shell: Shell, arguments: Namespace) -> object:
    shell.call(Cluster.set_value, arguments.service, arguments.value, _approval(arguments))
    return "Set Quorum Value successful"


def _list_values(shell: Shell, _arguments: Namespace) -> object:
    with shell.cluster() as cluster:
        return cluster.values


# key, crypto


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


def _list_keys(shell: Shell, arguments: Namespace) -> object:
    with shell.cluster() as cluster:
        found = keys.matching(cluster, shell.session, arguments.filter)
        whole = arguments.verbose and cluster.member(shell.session)[1] == CRYPTO_USER
    end = arguments.starting_token + arguments.max_items
    page = found[arguments.starting_token : end]
    return {
        "matched_keys": [
            _key_data(key) if whole else {"key-reference": key.name, "attributes": {"label": key.label}} for key in page
        ],
        "total_key_count": len(found),
        "returned_key_count": len(page),
        **({"next_token": str(end)} if end < len(found) else {}),
    }


def _share(shell: Shell, arguments: Namespace) -> object:
    shell.call(keys.share, arguments.filter, _name(arguments), _approval(arguments))
    return {"message": "Key shared successfully"}


def _unshare(shell: Shell, arguments: Namespace) -> object:
    shell.call(keys.unshare, arguments.filter, _name(arguments), _approval(arguments))
    return {"message": "Key unshared successfully"}


def _delete_key(shell: Shell, arguments: Namespace) -> object:
    shell.call(keys.delete, arguments.filter)
    return {"message": "Key deleted successfully"}


def _sign(shell: Shell, arguments: Namespace) -> object:
    approval, content, name = _approval(arguments), _content(arguments), arguments.hash_function
    digest = keys.digest_in(name, content) if arguments.data_type == "digest" else hashlib.new(name, content).digest()
    key, signature = shell.call(keys.sign, arguments.key_filter, name, digest, approval)
    return {"key-reference": key.name, "signature": _text(signature)}


def _content(arguments: Namespace) -> bytes:
    if arguments.data_path is not None:
        return files.read(arguments.data_path, _MAX_DATA).content
    try:
        return encoding.decode(arguments.data.encode())
    except ToktoolsError as error:
        raise error.at("--data") from None


# All of them


def parser() -> Parser:
    """Return the parser of the CLI's commands."""
    cli = Parser(prog="", description="A stand-in for the CloudHSM CLI")
    _add_cluster(cli)
    _add_login(cli)
    _add_user(cli)
    _add_quorum(cli)
    _add_key(cli)
    _add_crypto(cli)
    return cli


def _add_cluster(cli: Parser) -> None:
    group = cli.add("cluster", "The cluster as a whole")
    group.add("activate", "Make the first admin, named admin", _activate, _PASSWORD, logs_in=False)
    group.add("hsm-info", "List the HSMs", _hsm_info, logs_in=False)


def _add_login(cli: Parser) -> None:
    login = cli.add("login", "Log in", _login, *_USER, _PASSWORD)
    token = Option("--token", "The file for the unsigned tokens", required=True)
    login.add("mfa-token-sign", "Log in with a second factor", _mfa_login, token)
    cli.add("logout", "Log out", _logout)


def _add_user(cli: Parser) -> None:
    group = cli.add("user", "The users of the cluster")
    group.add("create", "Make a user. For admins", _create, *_USER, _PASSWORD, _APPROVAL)
    group.add("delete", "Remove a user. For admins", _delete, *_USER, _APPROVAL)
    group.add("list", "List the users", _list, logs_in=False)
    group.add(
        "change-password",
        "Change a password, and so unlock the user; the quorum registration goes with it",
        _change_password,
        *_USER,
        _PASSWORD,
        _APPROVAL,
        _flag("--deregister-mfa", "Also remove the second factor"),
        _flag("--deregister-quorum", "Remove the quorum registration, which happens in any case"),
    )
    group.add("change-mfa", "The second factor of a user").add(
        "token-sign",
        "Register the key of a second factor, or take it away, and set the password",
        _change_mfa,
        *_USER,
        Option("--change-password", "The new password; without it, the CLI asks for it"),
        Option("--token", "The file for the unsigned tokens", either=True),
        _APPROVAL,
        _flag("--deregister", "Remove the second factor", either=True),
        _flag("--change-quorum", "Also change the quorum key; there is one key for both"),
    )
    group = group.add("change-quorum", "The key with which a user approves")
    group.add("token-sign", "A key that signs quorum tokens").add(
        "register",
        "Register the key with which the logged-in user approves",
        _register,
        Option("--public-key", "The public key", required=True),
        Option("--signed-token", "The signed registration token", required=True),
    )


def _add_quorum(cli: Parser) -> None:
    group = cli.add("quorum", "What several users must approve").add("token-sign", "Quorum tokens and quorum values")
    group.add(
        "generate",
        "Write a token for others to approve, or for a registration",
        _generate_token,
        Option("--service", "What the token is for", required=True, choices=_SERVICES),
        Option("--token", "The file for the token", required=True),
        _several("--filter", f"For a key service: the one key that fits {_FITS}", _filter),
    )
    group.add("list", "List the quorum tokens", _list_tokens)
    scopes = {"user": "one's own", "all": "everybody's"}
    scope = Option("--scope", "Whose tokens", required=True, choices=scopes)
    group.add("delete", "Delete quorum tokens. For admins", _delete_tokens, scope)
    group.add(
        "set-quorum-value",
        "Set how many must approve. For admins",
        _set_value,
        Option("--service", "What is approved", required=True, choices={name: _SERVICES[name] for name in SERVICES}),
        Option("--value", "How many", required=True, type=_number),
        _APPROVAL,
    )
    group.add("list-quorum-values", "List how many must approve", _list_values, logs_in=False)


def _add_key(cli: Parser) -> None:
    group = cli.add("key", "The keys of the cluster")
    group.add("generate-asymmetric-pair", "Make a key pair").add(
        "rsa",
        "Make an RSA key pair. For crypto users",
        _generate_pair,
        Option("--public-label", "The label of the public key", required=True),
        Option("--private-label", "The label of the private key", required=True),
        _flag("--session", "Keys that end with the login"),
        Option("--modulus-size-bits", "The size of the modulus: 2048, 3072 or 4096", required=True, type=_number),
        Option("--public-exponent", "The public exponent: 65537", required=True, type=_number),
        _attributes("public", "verify=true"),
        _attributes("private", "sign=true"),
        _several("--share-crypto-users", "Crypto users with whom the private key is shared", str.lower),
        Option("--manage-private-key-quorum-value", "How many must approve its management", default=0, type=_number),
        Option("--use-private-key-quorum-value", "How many must approve its use", default=0, type=_number),
    )
    group.add(
        "list",
        "List the keys that the user owns or shares, and all public keys",
        _list_keys,
        _several("--filter", f"The keys that fit {_FITS}", _filter),
        Option("--max-items", "How many to list", default=10, type=_number),
        Option("--starting-token", "Where to go on: the next_token of a list before", default=0, type=_number),
        _flag("--verbose -v", "All attributes"),
    )
    one = _several("--filter", f"The one key that fits {_FITS}", _filter, required=True)
    group.add("share", "Share a key. For its owner", _share, one, *_USER, _APPROVAL)
    unshare = "Take a key from a user with whom it is shared. For its owner"
    group.add("unshare", unshare, _unshare, one, *_USER, _APPROVAL)
    group.add("delete", "Delete a key. For its owner", _delete_key, one)


def _add_crypto(cli: Parser) -> None:
    cli.add("crypto", "Work with keys").add("sign", "Sign").add(
        "rsa-pkcs",
        "Sign with RSA-PKCS. For crypto users",
        _sign,
        _several("--key-filter", f"The one key that fits {_FITS}", _filter, required=True),
        Option("--hash-function", "What the data is hashed with", required=True, choices=list(keys.HASHES)),
        Option("--data-path", "The file with the data", either=True),
        Option("--data", "The data", either=True),
        _APPROVAL,
        Option("--data-type", "What the data is", choices={"raw": "to be hashed", "digest": "a DigestInfo in DER"}),
    )

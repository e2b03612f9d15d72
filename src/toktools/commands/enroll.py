"""tok-enroll: give a CloudHSM user a second factor, a new key for it, or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

from toktools import keys
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.login import options as login
from toktools.options import CommandLine, Option
from toktools.system import passphrases

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.keys.signer import Signer

_OLD_PASSIN = passphrases.option("--old-passin", "where the pass phrase or PIN of --old-key is")
COMMAND_LINE = CommandLine(
    "tok-enroll",
    "Register, replace or remove the key of a second factor, and prove it by a login.",
    "tok-enroll -k officer1.key --username officer1 --role admin",
    (
        Option("-k", "KEY", "the new key: a file, or a pkcs11: or awskms: URI", also="--key"),
        login.SIGNER,
        Option("--deregister", "", "remove the second factor"),
    ),
    *login.SIGNERS_OWN,
    Option("--old-key", "KEY", "the key that is registered now, which logs in"),
    _OLD_PASSIN,
    Option("--change-quorum", "", "also replace the key for approvals: CloudHSM has one key for both"),
    *login.LOGIN,
)


def _work(options: SimpleNamespace) -> int:
    if options.deregister:
        login.refuse(options, "cannot be used with --deregister", *login.SIGNERS_OWN)
    new = None if options.deregister else login.open_signer(options, TOOL)
    old = _old(options)
    if new and old and new.public == old.public:
        raise ToktoolsError("the new key and the old key are the same", "to keep using a key, change nothing")
    from toktools.login import dialogues

    who = f"{options.username} ({options.role})"
    change = "the new key is registered" if new else "the second factor is removed"
    with login.started(options, [signer for signer in (old, new) if signer], TOOL) as (cli, user, host):
        with _left("nothing changed", _hint_of_login(options)):
            dialogues.log_in(cli, user, host, "login.json", old)
        TOOL.say(f"logged in as {who}")
        with _left("nothing changed"):
            dialogues.begin_change(cli, user, host, new, quorum=options.change_quorum)
        TOOL.say("registering the new key" if new else "removing the second factor")
        with _left(
            "nothing changed, as far as the CLI knows", _hint_of_change(options), f"it is not known whether {change}"
        ):
            dialogues.end_change(cli, user, host, new)
        TOOL.say(change)
        try:
            dialogues.log_out(cli)
            dialogues.log_in(cli, user, host, "proof.json", new)
        except ToktoolsError as error:
            raise ToktoolsError(f"{change}, but no login has proved it: {error.message}", error.hint) from None
        TOOL.say(f"logged in {'with the new key' if new else 'without a second factor'} as {who}")
        cli.quit()
    return 0


def _old(options: SimpleNamespace) -> Signer | None:
    if options.old_key is not None:
        return keys.open_signer(options.old_key, options.old_passin, TOOL.warn)
    login.refuse(options, "needs --old-key KEY", _OLD_PASSIN)
    if options.deregister:
        raise ToktoolsError("--deregister needs --old-key KEY to log in")
    return None


@contextmanager
def _left(refused: str, hint: str = "", otherwise: str = "") -> Iterator[None]:
    """Say after an error how things are left: where the answer was no, with a hint, or otherwise."""
    try:
        yield
    except ToktoolsError as error:
        if error.status == 1:
            raise ToktoolsError(f"{error.message}; {refused}", error.hint or hint, 1) from None
        raise error.also(otherwise or refused) from None


def _hint_of_login(options: SimpleNamespace) -> str:
    if options.old_key:
        return "check the password, and that --old-key is the registered key; a user who has none needs no --old-key"
    return "check the password; if the user has a second factor, give its key with --old-key"


def _hint_of_change(options: SimpleNamespace) -> str:
    return (
        ""
        if options.change_quorum
        else "if the user is an approver, the same key approves: --change-quorum changes it too"
    )


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-enroll."""
    return TOOL.run(argv)

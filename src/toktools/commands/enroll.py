"""tok-enroll: give a CloudHSM user a second factor, a new key for it, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from toktools.errors import ToktoolsError
from toktools.login import options as shared
from toktools.options import KEY, add_source_option, refuse_flags

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from toktools.cli import Console
    from toktools.keys.signer import Signer

PURPOSE = "Register, replace or remove the key of a second factor, and prove it by a login."
EXAMPLE = "tok-enroll -k officer1.key --username officer1 --role admin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    shared.add_signer_options(
        parser,
        f"the new key: {KEY}",
        "--deregister",
        "remove the second factor",
    )
    parser.add_argument("--old-key", metavar="KEY", help="the key that is registered now, which logs in")
    add_source_option(parser, "--old-passin", "that of --old-key")
    parser.add_argument("--old-verify-key", metavar="PUB", help="the public key of --old-key, to check it")
    parser.add_argument(
        "--change-quorum",
        action="store_true",
        help="also replace the key for approvals: one serves both",
    )
    shared.add_login_options(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """Log in, change the key, and log in with it."""
    shared.refuse_ssh_alone(options)
    if options.deregister:
        refuse_flags(options, "cannot be used with --deregister", *shared.SIGNER_FLAGS)
    new = None if options.deregister else shared.open_signer(options, console)
    old = _old(options, console)
    if new and old and new.public_key == old.public_key:
        raise ToktoolsError("the new key and the old key are the same", "to keep using a key, change nothing")
    from toktools.login import dialogues

    who = f"{options.username} ({options.role})"
    change = "the new key is registered" if new else "the second factor is removed"
    with shared.started(options, [signer for signer in (old, new) if signer], console) as (cli, user, host):
        with _left("nothing changed", _hint_of_login(options)):
            dialogues.log_in(cli, user, host, "login.json", old)
        console.say(f"logged in as {who}")
        with _left("nothing changed"):
            dialogues.begin_change(cli, user, host, new, quorum=options.change_quorum)
        console.say("registering the new key" if new else "removing the second factor")
        with _left(
            "nothing changed, as far as the CLI knows", _hint_of_change(options), f"it is not known whether {change}"
        ):
            dialogues.end_change(cli, user, host, new)
        console.say(change)
        try:
            dialogues.log_out(cli)
            dialogues.log_in(cli, user, host, "proof.json", new)
        except ToktoolsError as error:
            raise ToktoolsError(f"{change}, but the test login failed: {error.message}", error.hint) from None
        console.say(f"logged in {'with the new key' if new else 'without a second factor'} as {who}")
        cli.quit()
    return 0


def _old(options: argparse.Namespace, console: Console) -> Signer | None:
    if options.old_key is not None:
        public_key = "--old-verify-key", options.old_verify_key
        return shared.open_key(("--old-key", options.old_key), options.old_passin, public_key, console)
    refuse_flags(options, "needs --old-key KEY", "--old-passin", "--old-verify-key")
    if options.deregister:
        raise ToktoolsError("--deregister needs --old-key KEY to log in")
    return None


@contextmanager
def _left(refused: str, hint: str = "", otherwise: str = "") -> Iterator[None]:
    """Add to an error what has changed: *refused* if the CLI refused, else *otherwise*."""
    try:
        yield
    except ToktoolsError as error:
        if error.status == 1:
            raise ToktoolsError(f"{error.message}; {refused}", hint or error.hint, 1) from None
        raise error.also(otherwise or refused) from None


def _hint_of_login(options: argparse.Namespace) -> str:
    if options.old_key:
        return "check the password and --old-key; for a user without a second factor, leave --old-key out"
    return "check the password; if the user has a second factor, give its key with --old-key"


def _hint_of_change(options: argparse.Namespace) -> str:
    return (
        "" if options.change_quorum else "an approver has one key for MFA and approvals: --change-quorum replaces both"
    )

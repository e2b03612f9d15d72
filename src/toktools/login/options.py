"""The options of the commands that log in; opening the signer, the host and the CLI."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from toktools import keys
from toktools.errors import ToktoolsError
from toktools.options import (
    add_base64_option,
    add_key_option,
    add_source_option,
    add_verbose_option,
    add_verify_key_option,
    cluster_id,
    refuse_flags,
)
from toktools.system import events, files, process
from toktools.tokens import approvals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from toktools.cli import Console
    from toktools.keys.signer import Signer
    from toktools.login.dialogues import User
    from toktools.login.driver import Cli
    from toktools.login.host import LocalHost
    from toktools.system.prompt import Source

_MAX_DIGITS = 6
_CLI = "/opt/cloudhsm/bin/cloudhsm-cli"


def _words(option: str, text: str) -> list[str]:
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ToktoolsError(f"{option}: {str(error).lower()}") from None
    if not words:
        raise ToktoolsError(f"{option}: the command is empty")
    return words


def _host(text: str) -> str:
    if not text or text.startswith("-") or not text.isprintable() or " " in text:
        raise ToktoolsError("--host: expected [USER@]HOST, as ssh takes it")
    return text


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS and int(text)):
        raise ToktoolsError("--timeout: expected a number of seconds from 1 to 99999")
    return float(text)


def _token_dir(text: str) -> str:
    from toktools.login import host

    if not text.startswith("/") or not host.is_plain(text):
        raise ToktoolsError("--token-dir: expected an absolute path of letters, digits, '/', '.', '_' and '-'")
    return text


SIGNER_FLAGS = ("-b", "-p", "--passin")
"""The options that need -k or --signer."""


def add_signer_options(parser: argparse.ArgumentParser, key: str, other: str, about: str) -> None:
    """Add -k and --signer, an alternative to both, and the options that belong to them."""
    group = parser.add_mutually_exclusive_group(required=True)
    add_key_option(group, key)
    group.add_argument(
        "--signer",
        metavar="COMMAND",
        type=partial(_words, "--signer"),
        help="the signer: a command, as for tok-exec",
    )
    group.add_argument(other, action="store_true", help=about)
    add_base64_option(parser, "signer")
    add_verify_key_option(parser, "the public key of the signer, or of -k to check it")
    add_source_option(parser, "--passin", "the pass phrase or PIN")


def add_login_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the user and the CLI."""
    parser.add_argument(
        "--username", metavar="U", type=partial(approvals.user, "--username"), required=True, help="the CloudHSM user"
    )
    parser.add_argument(
        "--role", metavar="R", choices=approvals.ROLES, required=True, help="the user's role: admin or crypto-user"
    )
    add_source_option(parser, "--password", "the user's password")
    parser.add_argument(
        "--cli",
        metavar="COMMAND",
        type=partial(_words, "--cli"),
        default=[_CLI],
        help=f"the CLI; the default is {_CLI}",
    )
    parser.add_argument(
        "-H", "--host", metavar="HOST", type=_host, help="the host of the CLI, as ssh takes it: [USER@]HOST"
    )
    parser.add_argument(
        "--ssh", metavar="COMMAND", type=partial(_words, "--ssh"), default=["ssh"], help="run this in place of ssh"
    )
    parser.add_argument(
        "--token-dir",
        metavar="DIR",
        type=_token_dir,
        help="parent directory of token files, not TMPDIR or /tmp",
    )
    parser.add_argument("--cluster-id", metavar="ID", type=cluster_id, help="the cluster, if several are configured")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=60.0,
        help="how long each step may take; the default is 60",
    )
    add_verbose_option(parser)
    parser.add_argument("--record", metavar="FILE", help="record the dialogue in a new file, without secrets")


def refuse_ssh_alone(options: argparse.Namespace) -> None:
    """Refuse --ssh without --host: whoever forgets the host would log in at the CLI that is here."""
    if not options.host:
        refuse_flags(options, "needs --host", "--ssh")


def open_signer(options: argparse.Namespace, console: Console) -> Signer:
    """Open the key of -k, or make the signer of --signer, whose public key is known. Raises ToktoolsError."""
    if options.key is not None:
        refuse_flags(options, "needs --signer, not -k", "-b")
        return open_key(("-k", options.key), options.passin, ("-p", options.verify_key), console)
    if not options.verify_key:
        raise ToktoolsError("--signer needs -p PUB: the HSM counts a wrong signature as a wrong login")
    refuse_flags(options, "cannot be used with --signer", "--passin")
    from shutil import which

    from toktools.keys.command import Command

    key = keys.read_public_key(options.verify_key, console.warn)
    signer = Command(options.signer, base64=options.base64, public_key=key)
    if which(options.signer[0]) is None:  # the HSM may count a login that ends later
        raise ToktoolsError(f"--signer: {files.display(options.signer[0])}: not found, or not executable")
    return signer


def open_key(key: tuple[str, str], source: Source, public_key: tuple[str, str | None], console: Console) -> Signer:
    """Open a private key, and compare it with *public_key*; each comes with its flag.

    Raises ToktoolsError if they do not belong together: the HSM would count that as a wrong login.
    """
    signer = keys.open_signer(key[1], source, console.warn)
    if public_key[1] is not None and signer.public_key != keys.read_public_key(public_key[1], console.warn):
        raise ToktoolsError(f"{key[0]} and {public_key[0]} are different keys; nothing typed")
    return signer


@contextmanager
def started(
    options: argparse.Namespace, signers: Sequence[Signer], console: Console
) -> Iterator[tuple[Cli, User, LocalHost]]:
    """Start the CLI, and yield it with the user and the host; end it, and remove all files, after the block.

    This holds after a signal too. Programs that the CLI has started are left to it. Raises ToktoolsError.
    """
    from toktools.login import dialogues, driver, host
    from toktools.login.recording import Recording

    options.password.warn_of_exposure(console.warn)
    user = dialogues.User(options.username, options.role, options.password, console.warn)
    cluster = ["--cluster-id", options.cluster_id] if options.cluster_id else []
    where = (
        host.SshHost(options.host, options.ssh, options.token_dir, console, options.timeout)
        if options.host
        else host.LocalHost(options.token_dir, console)
    )
    cli = driver.Cli(options.cli[0], console.say, options.timeout, where)
    recording = None if options.record is None else Recording(options.record, *driver.SIZE, console)
    # The signers are closed first, so that none of their threads works while the host starts a command.
    closes = [*(signer.close for signer in signers), cli.close, where.close]
    closes += [recording.close] if recording else []
    with process.unwind_on_signals():
        try:
            with events.hinted():
                where.open()
                cli.start(where.argv([*options.cli, "interactive", *cluster]), recording)
            try:
                yield cli, user, where
            except ToktoolsError:
                cli.leave()
                raise
        finally:
            try:
                _close_all(closes)
            except process.Terminated:  # begin again; a second signal ends this process at once
                _close_all(closes)
                raise


def _close_all(closes: Sequence[Callable[[], None]]) -> None:
    """Close all in this order, even if one raises; it may be called again."""
    with ExitStack() as stack:
        for close in reversed(closes):
            stack.callback(close)

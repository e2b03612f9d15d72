"""The options of the commands that log in, and what they open: the signer, the host and the CLI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace

from toktools import keys
from toktools.errors import ToktoolsError
from toktools.options import PASSIN, Option, secret
from toktools.system import files, process
from toktools.tokens import approvers

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.cli import Tool
    from toktools.keys.signer import Signer
    from toktools.login.dialogues import User
    from toktools.login.driver import Cli
    from toktools.login.host import LocalHost

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


def _cluster(text: str) -> str:
    if not (text.isascii() and text.replace("-", "x").isalnum()) or text.startswith("-"):
        raise ToktoolsError("--cluster-id: a cluster ID has only letters, digits and hyphens")
    return text


SIGNER = Option("--signer", "COMMAND", "the signer: a command, as for tok-exec", convert=partial(_words, "--signer"))
"""What may stand in place of -k."""
SIGNERS_OWN = (
    Option("-b", "", "the signer writes base64, not raw bytes", also="--base64"),
    Option("-p", "PUB", "the public key of the signer", also="--verify-key"),
    PASSIN,
)
"""What goes with --signer, or with -k."""
LOGIN = (
    Option("--username", "U", "the CloudHSM user", convert=partial(approvers.user, "--username"), required=True),
    Option(
        "--role", "R", "the user's role: admin or crypto-user", convert=partial(approvers.role, "--role"), required=True
    ),
    secret("--password", "where the user's password is: env:VAR, file:PATH or fd:N"),
    Option("--cli", "COMMAND", f"the CLI; the default is {_CLI}", convert=partial(_words, "--cli"), default=[_CLI]),
    Option("-H", "HOST", "the host of the CLI, as ssh takes it: [USER@]HOST", also="--host", convert=_host),
    Option("--ssh", "COMMAND", "run this in place of ssh", convert=partial(_words, "--ssh"), default=["ssh"]),
    Option("--token-dir", "DIR", "where the CLI has its token files; there they get a directory", convert=_token_dir),
    Option("--cluster-id", "ID", "the cluster, if several are configured", convert=_cluster),
    Option("--timeout", "SECONDS", "how long each step may take; the default is 60", convert=_seconds, default=60.0),
)
"""Who logs in, and at which CLI."""


def refuse(options: SimpleNamespace, reason: str, *unused: Option) -> None:
    """Raise ToktoolsError, for this reason, where one of these options was given: nothing would come of it."""
    for option in unused:
        if getattr(options, option.name) is not option.default:
            raise ToktoolsError(f"{option.flag} {reason}")


def open_signer(options: SimpleNamespace, tool: Tool) -> Signer:
    """Open the key of -k, or make the signer of --signer, whose public key is known. Raises ToktoolsError."""
    if options.k is not None:
        if options.p is not None or options.b:
            raise ToktoolsError("-p and -b go with --signer, not with -k")
        return keys.open_signer(options.k, options.passin, tool.warn)
    if not options.signer:
        raise ToktoolsError("-k KEY or --signer COMMAND is missing", f"try '{tool.name} --help'")
    if not options.p:
        raise ToktoolsError("--signer needs -p PUB: the HSM counts a wrong signature as a wrong login")
    refuse(options, "cannot be used with --signer", PASSIN)
    from toktools.keys import public
    from toktools.keys.command import Command

    key = public.read(options.p)
    keys.check_size(files.display(options.p), key, tool.warn)
    return Command(options.signer, base64=options.b, public=key)


@contextmanager
def started(options: SimpleNamespace, signers: Sequence[Signer], tool: Tool) -> Iterator[tuple[Cli, User, LocalHost]]:
    """Start the CLI, and yield it with the user and the host; after the block it has ended, and no file is left.

    After a signal too. The programs that the CLI has started are the CLI's own business. Raises ToktoolsError.
    """
    from toktools.login import dialogues, driver, host

    options.password.warn_of_exposure(tool.warn)
    user = dialogues.User(options.username, options.role, options.password)
    cluster = ["--cluster-id", options.cluster_id] if options.cluster_id else []
    where = (
        host.SshHost(options.H, options.ssh, options.token_dir, tool.say, options.timeout)
        if options.H
        else host.LocalHost(options.token_dir)
    )
    cli = driver.Cli(options.cli[0], tool.say, options.timeout, where)
    cleanup = ExitStack()
    for close in (*(signer.stop for signer in signers), where.close, cli.close):
        cleanup.callback(close)
    with process.unwind_on_signals():
        try:
            where.open()
            cli.start(where.argv([*options.cli, "interactive", *cluster]))
            try:
                yield cli, user, where
            except ToktoolsError:
                cli.leave()
                raise
        finally:
            with process.held():
                cleanup.close()

"""tok-login: log in to the CloudHSM CLI with a second factor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

from toktools import approvers, files, keys, passphrases, signals
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.options import CommandLine, Operand, Option

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.keys.signer import Signer

_MAX_DIGITS = 6
_STDIN = "-"
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


def _reply(text: str) -> tuple[str, passphrases.Secret]:
    question, _, source = text.rpartition("=")
    if not question.strip():
        raise ToktoolsError("--answer: expected QUESTION=SOURCE, where SOURCE is env:VAR, file:PATH or fd:N")
    return question, passphrases.source("--answer", source)


def _host(text: str) -> str:
    if not text or text.startswith("-") or not text.isprintable() or " " in text:
        raise ToktoolsError("--host: expected [USER@]HOST, as ssh takes it")
    return text


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS and int(text)):
        raise ToktoolsError("--timeout: expected a number of seconds from 1 to 99999")
    return float(text)


def _cluster(text: str) -> str:
    if not (text.isascii() and text.replace("-", "x").isalnum()) or text.startswith("-"):
        raise ToktoolsError("--cluster-id: a cluster ID has only letters, digits and hyphens")
    return text


COMMAND_LINE = CommandLine(
    "tok-login",
    "Log in to the CloudHSM CLI with a second factor, and go on from there.",
    "tok-login -k officer1.key --username officer1 --role admin",
    (
        Option("-k", "KEY", keys.KEY.about, also="--key"),
        Option("--signer", "COMMAND", "the signer: a command, as for tok-exec", convert=partial(_words, "--signer")),
    ),
    Option("--no-mfa", "", "log in a user who has no second factor"),
    Option("-b", "", "the signer writes base64, not raw bytes", also="--base64"),
    Option("-p", "PUB", "the public key of the signer", also="--verify-key"),
    passphrases.PASSIN,
    Option("--username", "U", "the CloudHSM user", convert=partial(approvers.user, "--username"), required=True),
    Option(
        "--role", "R", "the user's role: admin or crypto-user", convert=partial(approvers.role, "--role"), required=True
    ),
    Option(
        "--password",
        "SOURCE",
        "where the user's password is: env:VAR, file:PATH or fd:N",
        convert=partial(passphrases.source, "--password"),
        default=passphrases.prompt("--password"),
    ),
    Option("--cli", "COMMAND", f"the CLI; the default is {_CLI}", convert=partial(_words, "--cli"), default=[_CLI]),
    Option("-H", "HOST", "the host of the CLI, as ssh takes it: [USER@]HOST", also="--host", convert=_host),
    Option("--ssh", "COMMAND", "run this in place of ssh", convert=partial(_words, "--ssh"), default=["ssh"]),
    Option("--cluster-id", "ID", "the cluster, if several are configured", convert=_cluster),
    Option("--timeout", "SECONDS", "how long the CLI may be silent; the default is 60", convert=_seconds, default=60.0),
    Option("-c", "LINE", "run this command; -: run the commands on standard input", also="--command", repeated=True),
    Option(
        "--answer", "QUESTION=SOURCE", "the answer to a question that a command asks", convert=_reply, repeated=True
    ),
    Option("--text", "", "accept an answer that is not JSON"),
    Operand(
        "COMMAND",
        "a command for the CLI; without one, you get the CLI's prompt",
        many=True,
        usage="[-- COMMAND...]",
    ),
)


def _work(options: SimpleNamespace) -> int:
    # Instead of those on standard input stands None.
    given = [None if line == _STDIN else line for line in options.c]
    given += [" ".join(options.COMMAND)] if options.COMMAND else []
    if options.c and options.COMMAND:
        raise ToktoolsError("-c and COMMAND cannot be used together")
    if not given and not (os.isatty(files.STDIN) and os.isatty(files.STDOUT)):
        raise ToktoolsError("standard input and output are not a terminal", "give a command for the CLI after --")
    from contextlib import ExitStack

    from toktools.login import dialogues, place
    from toktools.login.driver import Cli

    for command in given:
        if command is not None:
            dialogues.refuse_command(command)
    passphrases.warn_of_exposure(options.password, TOOL.warn)
    commands = dialogues.Commands(dict(options.answer), compact=bool(options.c), text=options.text)
    undo = ExitStack()
    signer = _signer(options)
    user = dialogues.User(options.username, options.role, options.password)
    cluster = ["--cluster-id", options.cluster_id] if options.cluster_id else []
    with signals.tidied(tidy=undo.close), undo:
        if signer:
            undo.callback(signer.stop)
        with signals.held():
            where = place.There(options.ssh, options.H) if options.H else place.Here()
            undo.callback(where.close)
            argv = where.argv([*options.cli, "interactive", *cluster])
            cli = Cli(argv, options.cli[0], TOOL.say, options.timeout)
            undo.callback(cli.close)
        dialogues.log_in(cli, user, where, signer)
        where.clear()
        if not given:
            TOOL.say(f"logged in as {options.username} ({options.role})")
            return cli.hand_over()
        commands.run(cli, given, files.write_stdout)
        dialogues.leave(cli)
    return 0


def _signer(options: SimpleNamespace) -> Signer | None:
    if options.no_mfa:
        if options.k or options.signer:
            raise ToktoolsError("--no-mfa cannot be used with -k or --signer")
        return None
    if options.k:
        if options.p or options.b:
            raise ToktoolsError("-p and -b go with --signer, not with -k")
        return keys.open_signer(options.k, options.passin, TOOL.warn)
    if not options.signer:
        raise ToktoolsError("-k KEY or --signer COMMAND is missing", "try 'tok-login --help'")
    if not options.p:
        raise ToktoolsError("--signer needs -p PUB: the HSM counts a wrong signature as a wrong login")
    from toktools.keys import public
    from toktools.keys.command import Command

    return Command(options.signer, base64=options.b, public=public.read(options.p))


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-login."""
    return TOOL.run(argv)

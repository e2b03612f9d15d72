"""tok-login: log in to the CloudHSM CLI with a second factor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

from toktools import keys
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.login import options as login
from toktools.options import CommandLine, Operand, Option
from toktools.system import files, passphrases

_STDIN = "-"


_NEW_PASSWORD = Option(
    "--new-password",
    "SOURCE",
    "the new password that a command asks for: env:VAR, file:PATH or fd:N",
    convert=partial(passphrases.source, "--new-password"),
)

COMMAND_LINE = CommandLine(
    "tok-login",
    "Log in to the CloudHSM CLI with a second factor, and go on from there.",
    "tok-login -k officer1.key --username officer1 --role admin",
    (Option("-k", "KEY", keys.KEY.about, also="--key"), login.SIGNER),
    Option("--no-mfa", "", "log in a user who has no second factor"),
    *login.SIGNERS_OWN,
    *login.LOGIN,
    Option("-c", "LINE", "run this command; -: run the commands on standard input", also="--command", repeated=True),
    _NEW_PASSWORD,
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
    if not given:
        login.refuse(options, "goes with a command for the CLI", _NEW_PASSWORD)
    if not given and not (os.isatty(files.STDIN) and os.isatty(files.STDOUT)):
        raise ToktoolsError("standard input and output are not a terminal", "give a command for the CLI after --")
    from toktools.login import dialogues, pty

    for command in given:
        if command is not None:
            dialogues.refuse_command(command)
    if options.no_mfa:
        if options.k is not None or options.signer:
            raise ToktoolsError("--no-mfa cannot be used with -k or --signer")
        login.refuse(options, "cannot be used with --no-mfa", *login.SIGNERS_OWN)
    signer = None if options.no_mfa else login.open_signer(options, TOOL)
    if options.new_password:
        passphrases.require(options.new_password, "the command", "new password")
        passphrases.warn_of_exposure(options.new_password, TOOL.warn)
    commands = dialogues.Commands(options.new_password, files.write_stdout, compact=bool(options.c))
    with login.started(options, [signer] if signer else [], TOOL) as (cli, user, host):
        dialogues.log_in(cli, user, host, "unsigned-tokens.json", signer)
        host.clear()
        if not given:
            pty.discard_typed_ahead()
            TOOL.say(f"logged in as {options.username} ({options.role})")
            return cli.hand_over()
        commands.run(cli, given)
    return 0


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-login."""
    return TOOL.run(argv)

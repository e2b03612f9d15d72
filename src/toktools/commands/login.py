"""tok-login: log in to the CloudHSM CLI with a second factor."""

from __future__ import annotations

import os
from functools import partial

from toktools.errors import ToktoolsError
from toktools.login import options as shared
from toktools.options import PRIVATE_KEY, refuse_flags
from toktools.system import files
from toktools.system.prompt import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from toktools.cli import Console
    from toktools.parser import Parser

PURPOSE = "Log in to the CloudHSM CLI with a second factor, and go on from there."
EXAMPLE = "tok-login -k officer1.key --username officer1 --role admin"

_STDIN = "-"


def add_arguments(parser: Parser) -> None:
    """Add the options and operands."""
    shared.add_signer_options(
        parser,
        PRIVATE_KEY,
        "--no-mfa",
        "log in a user who has no second factor",
    )
    shared.add_login_options(parser)
    parser.add_argument("--record-session", action="store_true", help="record also what you do at the CLI's prompt")
    parser.add_argument(
        "-c",
        "--command",
        metavar="LINE",
        action="append",
        default=[],
        help="run this command; -: run the commands on standard input",
    )
    parser.add_argument(
        "--new-password",
        metavar="SOURCE",
        type=partial(Source.parse, "--new-password"),
        help="a command's new password: env:VAR, file:PATH or fd:N",
    )
    parser.add_argument(
        "words", metavar="COMMAND", nargs="*", help="a command for the CLI; without one, you get its prompt"
    )
    parser.needs_dashes = "the command for the CLI"


def run(options: argparse.Namespace, console: Console) -> int:
    """Log in, and run the commands or hand the terminal over."""
    shared.refuse_ssh_alone(options)
    # Instead of those on standard input stands None.
    lines = [None if line == _STDIN else line for line in options.command]
    lines += [" ".join(options.words)] if options.words else []
    if options.command and options.words:
        raise ToktoolsError("-c and COMMAND cannot be used together")
    if not lines:
        refuse_flags(options, "needs a command for the CLI", "--new-password")
    if lines or options.record is None:
        refuse_flags(options, "needs --record, and no command for the CLI", "--record-session")
    if not lines and not (os.isatty(files.STDIN) and os.isatty(files.STDOUT)):
        hint = "give a command for the CLI after --, or -c - to run those on standard input"
        raise ToktoolsError("standard input and output are not a terminal", hint)
    from toktools.login import dialogues
    from toktools.system import terminal

    for command in lines:
        if command is not None:
            dialogues.refuse_command(command)
    if options.no_mfa:
        refuse_flags(options, "cannot be used with --no-mfa", *shared.SIGNER_FLAGS)
    signer = None if options.no_mfa else shared.open_signer(options, console)
    if options.new_password:
        options.new_password.check("the command", "new password")
        options.new_password.warn_of_exposure(console.warn)
    commands = dialogues.Commands(options.new_password, files.write_stdout, compact=bool(options.command))
    with shared.started(options, [signer] if signer else [], console) as (cli, user, host):
        dialogues.log_in(cli, user, host, "unsigned-tokens.json", signer)
        host.clear()
        if not lines:
            terminal.discard_typed_ahead(files.STDIN)
            console.say(f"logged in as {options.username} ({options.role})")
            return cli.hand_over(record=options.record_session)
        commands.run(cli, lines)
    return 0

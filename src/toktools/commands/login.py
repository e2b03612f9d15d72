"""tok-login: log in to the CloudHSM CLI with a second factor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace

from toktools import keys
from toktools.cli import Tool
from toktools.errors import ToktoolsError
from toktools.login import session
from toktools.options import CommandLine, Operand, Option
from toktools.system import files
from toktools.system.prompt import Source

_STDIN = "-"


def _reply(text: str) -> tuple[str, Source]:
    question, _, source = text.rpartition("=")
    if not question.strip():
        raise ToktoolsError("--answer: expected QUESTION=SOURCE, where SOURCE is env:VAR, file:PATH or fd:N")
    return question, Source.parse("--answer", source)


_ANSWERS = (
    Option(
        "--answer", "QUESTION=SOURCE", "the answer to a question that a command asks", convert=_reply, repeated=True
    ),
    Option("--text", "", "accept an answer that is not JSON"),
)
"""What goes with a command for the CLI."""

COMMAND_LINE = CommandLine(
    "tok-login",
    "Log in to the CloudHSM CLI with a second factor, and go on from there.",
    "tok-login -k officer1.key --username officer1 --role admin",
    (Option("-k", "KEY", keys.KEY.about, also="--key"), session.SIGNER),
    Option("--no-mfa", "", "log in a user who has no second factor"),
    *session.SIGNERS_OWN,
    *session.LOGIN,
    Option("-c", "LINE", "run this command; -: run the commands on standard input", also="--command", repeated=True),
    *_ANSWERS,
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
        session.refuse(options, "goes with a command for the CLI", *_ANSWERS)
    if not given and not (os.isatty(files.STDIN) and os.isatty(files.STDOUT)):
        raise ToktoolsError("standard input and output are not a terminal", "give a command for the CLI after --")
    from toktools.login import dialogues

    for command in given:
        if command is not None:
            dialogues.refuse_command(command)
    if options.no_mfa:
        if options.k is not None or options.signer:
            raise ToktoolsError("--no-mfa cannot be used with -k or --signer")
        session.refuse(options, "cannot be used with --no-mfa", *session.SIGNERS_OWN)
    signer = None if options.no_mfa else session.signer(options, TOOL)
    commands = dialogues.Commands(dict(options.answer), TOOL.warn, compact=bool(options.c), text=options.text)
    with session.started(options, [signer] if signer else [], TOOL) as (cli, user, place):
        dialogues.log_in(cli, user, place.file("unsigned-tokens.json"), signer)
        place.clear()
        if not given:
            TOOL.say(f"logged in as {options.username} ({options.role})")
            return cli.hand_over()
        commands.run(cli, given, files.write_stdout)
    return 0


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-login."""
    return TOOL.run(argv)

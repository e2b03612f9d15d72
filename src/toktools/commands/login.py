"""tok-login: log in to the CloudHSM CLI with a second factor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

from toktools import approvers, files, keys, passphrases, signals
from toktools.cli import Tool
from toktools.errors import ToktoolsError, shown
from toktools.options import CommandLine, Operand, Option

_PLAIN = str.maketrans("/._-", "xxxx")
_MAX_DIGITS = 6
_CLI = "/opt/cloudhsm/bin/cloudhsm-cli"


def _cli(text: str) -> list[str]:
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ToktoolsError(f"--cli: {str(error).lower()}") from None
    if not words:
        raise ToktoolsError("--cli: no command")
    return words


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS and int(text)):
        raise ToktoolsError("--timeout: a number of seconds, 1 to 99999")
    return float(text)


def _cluster(text: str) -> str:
    if not (text.isascii() and text.replace("-", "x").isalnum()) or text.startswith("-"):
        raise ToktoolsError("--cluster-id: a cluster's ID has letters, digits and hyphens")
    return text


COMMAND_LINE = CommandLine(
    "tok-login",
    "Log in to the CloudHSM CLI with a second factor, and go on from there.",
    "tok-login -k officer1.key --username officer1 --role admin",
    keys.KEY,
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
    Option("--cli", "COMMAND", f"the CLI, by default {_CLI}", convert=_cli, default=[_CLI]),
    Option("--cluster-id", "ID", "the cluster, where several are configured", convert=_cluster),
    Option("--timeout", "SECONDS", "how long the CLI may be silent, by default 60", convert=_seconds, default=60.0),
    Operand(
        "COMMAND",
        "a command for the CLI, as one argument; without any, the terminal is yours",
        many=True,
        usage="[-- COMMAND...]",
    ),
)


def _work(options: SimpleNamespace) -> int:
    if not options.COMMAND and not (os.isatty(files.STDIN) and os.isatty(files.STDOUT)):
        raise ToktoolsError("there is no terminal to hand over", "commands for the CLI stand after --")
    if any(not c.strip() or not c.isprintable() or c.endswith("\\") for c in options.COMMAND):
        raise ToktoolsError("a command for the CLI is one line of text")
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from toktools.login import dialogues
    from toktools.login.driver import MAX_LINE, Cli

    if any(len(command.encode()) > MAX_LINE for command in options.COMMAND):
        raise ToktoolsError(f"a command for the CLI has no more than {MAX_LINE} bytes")
    signer = keys.open_signer(options.k, options.passin, TOOL.warn)
    user = dialogues.User(options.username, options.role, options.password)
    cluster = ["--cluster-id", options.cluster_id] if options.cluster_id else []
    undo = ExitStack()
    with signals.tidied(*signals.ALSO_DEADLY, tidy=undo.close), undo:
        with signals.held():
            folder = TemporaryDirectory(prefix="toktools-")
            undo.callback(folder.cleanup)
            path = os.path.join(folder.name, "unsigned-tokens.json")
            # How the CLI would want it quoted is not documented.
            if not (path.isascii() and path.translate(_PLAIN).isalnum()):
                raise ToktoolsError(f"{shown(path)}: a name that the CLI may misread", "set TMPDIR to a plainer folder")
            cli = Cli([*options.cli, "interactive", *cluster], options.cli[0], TOOL.say, options.timeout)
            undo.callback(cli.close)
        dialogues.log_in(cli, user, path, signer)
        folder.cleanup()
        if not options.COMMAND:
            TOOL.say(f"logged in as {options.username} ({options.role})")
            return cli.hand_over()
        for command in options.COMMAND:
            dialogues.run(cli, command, files.write_stdout)
        dialogues.leave(cli)
    return 0


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-login."""
    return TOOL.run(argv)

"""tok-login: log in to the CloudHSM CLI with a second factor."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace

from toktools import approvers, files, keys, passphrases, prompts, signals
from toktools.cli import Tool
from toktools.errors import ToktoolsError, shown
from toktools.options import CommandLine, Operand, Option

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.clidriver import Cli
    from toktools.keys.signer import Signer

_DELETE = 0x7F
_PLAIN = str.maketrans("/._-", "xxxx")
_PASSWORD_SIZES = range(7, 32 + 1)
"""Characters, as AWS documents them now (8 to 32), or did (7 to 32)."""
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

    try:
        from toktools.clidriver import MAX_LINE, Cli
    except ImportError:
        hint = "the extra toktools[login] installs it; see tok-login(1)"
        raise ToktoolsError("to drive the CLI takes the package pexpect", hint) from None
    if any(len(command.encode()) > MAX_LINE for command in options.COMMAND):
        raise ToktoolsError(f"a command for the CLI has no more than {MAX_LINE} bytes")
    signer = keys.open_signer(options.k, options.passin, TOOL.warn)
    cluster = ["--cluster-id", options.cluster_id] if options.cluster_id else []
    undo = ExitStack()
    with signals.tidied(tidy=undo.close), undo:
        with signals.held():
            folder = TemporaryDirectory(prefix="toktools-")
            undo.callback(folder.cleanup)
            cli = Cli([*options.cli, "interactive", *cluster])
            undo.callback(cli.close)
        _log_in(cli, signer, options, folder.name)
        folder.cleanup()
        if options.COMMAND:
            _run(cli, options.COMMAND)
        else:
            files.write_stdout(prompts.READY.encode())
            cli.hand_over()
        cli.end()
    return 0


def _log_in(cli: Cli, signer: Signer, options: SimpleNamespace, folder: str) -> None:
    for line in cli.wait_for(prompts.READY).splitlines():
        TOOL.say(shown(line))
    path = os.path.join(folder, "unsigned-tokens.json")
    if not (path.isascii() and path.translate(_PLAIN).isalnum()):  # how the CLI would want it quoted is not documented
        raise ToktoolsError(f"{shown(path)}: a name that the CLI may misread", "set TMPDIR to a plainer folder")
    cli.type(f"login --username {options.username} --role {options.role} mfa-token-sign --token {path}".encode())
    cli.expect(prompts.PASSWORD)
    password = _password(options)
    cli.expect(prompts.PASSWORD)  # still: a person may take longer than the CLI waits
    cli.refuse_echo()
    cli.type(password, secret=True)
    cli.expect(prompts.SIGNED_FILE)
    _sign(path, signer)
    cli.type(b"")
    cli.accept(cli.answer())


def _password(options: SimpleNamespace) -> bytes:
    passphrases.warn_of_exposure(options.password, TOOL.warn)
    password: bytes = options.password(options.username, "password")
    if len(password.decode(errors="replace")) not in _PASSWORD_SIZES:
        # The HSM would count it as a wrong one.
        sizes = f"{_PASSWORD_SIZES.start} to {_PASSWORD_SIZES.stop - 1}"
        raise ToktoolsError(f"a CloudHSM password has {sizes} characters; nothing typed")
    if any(byte < ord(" ") or byte == _DELETE for byte in password):
        raise ToktoolsError("a password with a control character cannot be typed")
    return password


def _sign(path: str, signer: Signer) -> None:
    """Sign every digest of the CLI's token file, in place, and make sure of each signature."""
    from toktools import replacing, signatures, tokenfile

    files.refuse_irregular(path)
    source, tokens = tokenfile.read(path)
    if tokens.shape.kind != "mfa":
        raise ToktoolsError(f"the CLI wrote a token file of the kind {tokens.shape.kind}, not one of a login")
    for index, digest in enumerate(tokens.digests):
        tokens.put(index, signer.sign(digest))
    verifier = signatures.Verifier([signer.public] if signer.public else [], tokens.digests)
    for place in tokens.places():
        fault = verifier.fault(place.index, place.text)
        if fault:
            raise ToktoolsError(f"{place.name}: {fault}")
    replacing.replace({path: tokens.dump()}, seen=source)


def _run(cli: Cli, commands: Sequence[str]) -> None:
    for command in commands:
        cli.type(command.encode())
        answer = cli.answer()
        files.write_stdout(f"{answer}\n".encode())
        cli.accept(answer)
    cli.type(b"quit")


TOOL = Tool(COMMAND_LINE, _work, has_secrets=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-login."""
    return TOOL.run(argv)

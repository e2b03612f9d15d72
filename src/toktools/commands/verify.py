"""tok-verify: say of every token whether its signature is good."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools import cli, files


def _command_line(name: str) -> cli.CommandLine:
    from toktools.options import CommandLine, Operand, Option  # noqa: PLC0415 - see cli.py

    return CommandLine(
        name,
        "Say of every token in a CloudHSM token file whether its signature is good.",
        "tok-verify -p officer1.pub signed-tokens.json",
        Option("-p", "PUB", "the key that should have signed", required=True, repeated=True),
        Option("-q", "", "write only the lines that are not OK"),
        Operand("FILE", "the token file, by default standard input"),
    )


def _work(options: SimpleNamespace) -> int:
    from toktools import keys, passphrases, signatures, tokenfile  # noqa: PLC0415 - heavy, see tok-merge

    source, tokens = tokenfile.read(options.FILE)
    public = [keys.public(path, passphrases.prompt) for path in options.p]
    lines = []
    status = 0
    for index in range(len(tokens.digests)):
        fault = signatures.fault(public, tokens.digests, index, tokens.signed(index))
        if fault:
            status = 1
        if fault or not options.q:
            lines.append(f"{source.name}: token {index + 1}: {f'FAILED: {fault}' if fault else 'OK'}\n")
    files.write_stdout("".join(lines).encode(errors="backslashreplace"))
    return status


TOOL = cli.Tool("tok-verify", _command_line, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-verify."""
    return TOOL.run(argv)

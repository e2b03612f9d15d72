"""tok-verify: say of every token whether its signature is good."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from toktools import files
from toktools.cli import Tool
from toktools.options import CommandLine, Operand, Option

COMMAND_LINE = CommandLine(
    "tok-verify",
    "Say of every token in a CloudHSM token file whether its signature is good.",
    "tok-verify -p officer1.pub signed-tokens.json",
    Option("-p", "PUB", "the key that should have signed", required=True, repeated=True),
    Option("-q", "", "write only the lines that are not OK"),
    Operand("FILE", "the token file, by default standard input"),
)


def _work(options: SimpleNamespace) -> int:
    from toktools import keys, signatures, tokenfile

    source, tokens = tokenfile.read(options.FILE)
    verifier = signatures.Verifier([keys.public(path) for path in options.p], tokens.digests)
    lines = []
    status = 0
    for index in range(len(tokens.digests)):
        fault = verifier.fault(index, tokens.signed(index))
        if fault:
            status = 1
        if fault or not options.q:
            lines.append(f"{source.name}: token {index + 1}: {f'FAILED: {fault}' if fault else 'OK'}\n")
    files.write_stdout("".join(lines).encode())
    return status


TOOL = Tool(COMMAND_LINE, _work)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-verify."""
    return TOOL.run(argv)

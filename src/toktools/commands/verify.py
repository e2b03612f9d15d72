"""tok-verify: say of every token whether its signature is good."""

from __future__ import annotations

from collections.abc import Sequence

from toktools import cli, files


def _add_options(parser: cli.Parser) -> None:
    parser.add_argument(
        "-p",
        metavar="PUB",
        action="append",
        required=True,
        help="the key that should have signed; may be repeated",
    )
    parser.add_argument("-q", action="store_true", help="write only the lines that are not OK")
    parser.add_argument("FILE", nargs="?", help="the token file, by default standard input")


def _work(options: cli.Namespace) -> int:
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


TOOL = cli.Tool(
    name="tok-verify",
    purpose="Say of every token in a CloudHSM token file whether its signature is good.",
    example="tok-verify -p officer1.pub signed-tokens.json",
    add_options=_add_options,
    work=_work,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run tok-verify."""
    return TOOL.run(argv)

"""Make the completions for bash, zsh and fish with shtab: completions.py DIR."""

from __future__ import annotations

import sys
from pathlib import Path

import shtab

from toktools import cli

ROOT = Path(__file__).resolve().parent.parent
PATHS = {"bash": "bash/{}", "zsh": "zsh/_{}", "fish": "fish/{}.fish"}
"""The files by the shell: bash-completion, zsh and fish look for these names."""


def words(*texts: str, files: bool = False) -> dict[str, object]:
    """Complete words that go on behind them, and files."""
    listed = " ".join(texts)
    function = f"_toktools_{'file_' if files else ''}{'_'.join(text.partition(':')[0] for text in texts)}"
    lines = [f'compgen -W "{listed}" -- "$1"', *(['compgen -f -- "$1"'] if files else [])]
    paths = "; __fish_complete_path (commandline -ct)" if files else ""
    return {
        "bash": function,
        "zsh": f"{{ compadd -S '' -- {listed.replace(':', chr(92) + ':')}{'; _files' if files else ''} }}",
        "fish": f"(printf '%s\\n' {listed}{paths})",
        "preamble": {"bash": "\n".join([f"{function}() {{", *(f"  {line}" for line in lines), "}"])},
    }


KEYS = words("pkcs11:", "awskms:///", files=True)
KINDS = {
    "FILE": shtab.FILE,
    "KEY": KEYS,
    "OUT": shtab.FILE,
    "PREFIX": shtab.FILE,
    "PUB": KEYS,
    "SIGNATURE": shtab.FILE,
    "SOURCE": words("env:", "file:", "fd:"),
}
"""By the name of the argument; a role has its choices, and all other text is free."""


def made() -> dict[str, str]:
    """Return each file by its path below completions/, and its text."""
    texts = {}
    for command in sorted(path.stem for path in (ROOT / "src/toktools/commands").glob("[a-z]*.py")):
        parser = cli.parser(command)
        for action in (*parser.options, *parser.operands):
            if kind := KINDS.get(str(action.metavar)):
                action.complete = kind  # type: ignore[attr-defined] # for shtab
        for shell, path in PATHS.items():
            texts[path.format(parser.prog)] = shtab.complete(parser, shell).rstrip("\n") + "\n"
    return texts


if __name__ == "__main__":
    for path, text in made().items():
        Path(sys.argv[1], path).write_text(text)

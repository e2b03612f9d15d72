"""python -m toktools: the list of the commands."""

from __future__ import annotations

from types import SimpleNamespace

from toktools import commands
from toktools.cli import Tool
from toktools.options import CommandLine
from toktools.system import files
from toktools.system.process import restore_default_signals


def _work(_options: SimpleNamespace) -> int:
    lines = commands.command_lines()
    width = max(len(line.name) for line in lines)
    text = "".join(f"{line.name:{width}}  {line.purpose}\n" for line in lines)
    files.write_stdout(f"{text}\nSee toktools(7), and the page or the --help of each.\n".encode())
    return 0


TOOL = Tool(CommandLine("python -m toktools", "List the commands of toktools.", "python -m toktools"), _work)

if __name__ == "__main__":
    restore_default_signals()
    raise SystemExit(TOOL.run(None))

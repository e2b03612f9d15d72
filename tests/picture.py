"""The picture in the README, docs/login.svg: a login at a terminal, drawn from a run against the stand-in.

"make picture" draws it anew, and a test holds it to what a run shows.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.sax.saxutils import escape

from rehearsing import PASSWORD, enrol

from toktools.login.pty import Pty
from toktools.login.screen import Screen

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "login.svg"
_ROWS, _COLUMNS = 40, 80
_SHELL, _MORE, _CLI = "$ ", "> ", "aws-cloudhsm > "
_TYPED = (
    (_SHELL, "tok-login -k officer1.key --username officer1 --role admin \\"),
    (_MORE, "    --cli 'tok-rehearse --state cluster.json'"),
    ("Enter password for officer1: ", PASSWORD),
    (_CLI, "quorum token-sign list-quorum-values"),
    (_CLI, "quit"),
)
"""What a person types, and the prompt that is waited for."""

_PATIENCE = 60.0
_LINE, _WIDTH, _MARGIN, _BAR = 18, 8, 16, 30
_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
_ABOUT = (
    "A terminal. tok-login asks for officer1's password, signs the token file of the CloudHSM CLI, and hands over the "
    "CLI's prompt. There a command is typed and answered."
)


def record(commands: Path) -> list[str]:
    """Return the rows that a terminal shows at a login; the commands are in this directory."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        subprocess.run(
            ["openssl", "genrsa", "-out", directory / "officer1.key", "2048"], check=True, capture_output=True
        )
        enrol(directory / "cluster.json", "officer1", directory / "officer1.key")
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        settings = {"PATH": path, "HOME": name, "PS1": _SHELL, "PS2": _MORE, "TERM": "vt100", "LC_ALL": "C"}
        environment = ["env", "-i", *(f"{key}={value}" for key, value in settings.items())]
        program = Pty(_ROWS, _COLUMNS)
        try:
            program.start([*environment, "sh", "-c", f"cd {name} && exec sh -i"])
            return _watch(program, Screen(_ROWS, _COLUMNS))
        finally:
            program.close()


def _watch(program: Pty, screen: Screen) -> list[str]:
    for prompt, line in _TYPED:
        _wait(program, screen, prompt)
        program.write(f"{line}\r".encode())
    _wait(program, screen, _SHELL)
    return [row for line in screen.lines(0) for row in re.findall(f".{{1,{_COLUMNS}}}", line) or [""]]


def _wait(program: Pty, screen: Screen, prompt: str) -> None:
    """Wait until the cursor stands at a prompt, on a row of its own, and nobody sees a password that is typed there."""
    row = screen.row
    deadline = time.monotonic() + _PATIENCE
    hides = prompt not in {_SHELL, _MORE, _CLI}
    while screen.line() != prompt or (screen.row == row and row) or (hides and program.mode()[1]):
        assert time.monotonic() < deadline, screen.lines(0)
        output = program.read(0.01)
        assert output is not None, screen.lines(0)
        program.write(screen.feed(output))


def draw(lines: list[str]) -> str:
    """Return the picture of a terminal that shows these lines."""
    width = _COLUMNS * _WIDTH + 2 * _MARGIN
    height = _BAR + len(lines) * _LINE + _MARGIN
    dots = "".join(f'<circle cx="{_MARGIN + 18 * number}" cy="15" r="5"/>' for number in range(3))
    rows = "".join(_row(number, line) for number, line in enumerate(lines) if line)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" \
role="img" aria-labelledby="title about">
<title id="title">A login to AWS CloudHSM with tok-login</title>
<desc id="about">{_ABOUT}</desc>
<style>text {{ font: 13px {_FONT}; fill: #b8bec6; white-space: pre }} .typed {{ fill: #fff; font-weight: bold }} \
.prompt {{ fill: #7fb685 }}</style>
<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8" fill="#1b1f24" stroke="#3a4048"/>
<g fill="#4a515a">{dots}</g>
{rows}</svg>
"""


def _row(number: int, line: str) -> str:
    prompt = next((prompt for prompt in (_CLI, _SHELL, _MORE) if line.startswith(prompt.rstrip())), "").rstrip()
    typed = line[len(prompt) :]
    text = f'<tspan class="prompt">{escape(prompt)}</tspan><tspan class="typed">{escape(typed)}</tspan>'
    at = f'x="{_MARGIN}" y="{_BAR + _LINE * number + 13}"'
    return f'<text xml:space="preserve" {at}>{text if prompt else escape(line)}</text>\n'


if __name__ == "__main__":
    PICTURE.write_text(draw(record(Path(sys.executable).parent)))

"""Behave as the CloudHSM CLI that a recording shows: replay.py RECORDING SCALE [ARGUMENT...].

The recording is one of tok-login --record or tok-enroll --record. What the CLI wrote is written again, in the same
pieces and, times SCALE, at the same moments; where something was typed, that much is waited for. The terminal echoes
nothing, since its echo is in the recording. Where the recording ends, the CLI goes on as AWS documents it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tty
from base64 import b64encode
from pathlib import Path

READY = "aws-cloudhsm > "
PASSWORD, AGAIN = "Enter password:", "Confirm password:"
FILE = "Enter signed token file path (press enter if same as the unsigned token file):"
KEY = "Enter public key PEM file path:"
QUESTIONS = {
    "login .* --token": [PASSWORD, FILE],
    "login ": [PASSWORD],
    "user change-mfa .* --token": [PASSWORD, AGAIN, FILE, KEY],
    "user change-mfa ": [PASSWORD, AGAIN],
}
RESPONSE = json.dumps({"error_code": 0, "data": {}}, indent=2).replace("\n", "\r\n")
MAX_PAUSE_SECONDS = 2.0  # in more, a person thought
NAME = re.compile(r"toktools-\w{1,16}")


class Replay:
    """The CLI of a recording."""

    def __init__(self, events: list[tuple[float, str, str]], scale: float) -> None:
        self.events = events
        self.scale = scale
        self.questions: list[str] = []
        self.has_response = False
        self.has_quit = False
        self.is_typing = False

    def play(self) -> None:
        """Write and read what the recording has."""
        last = 0.0
        for number, (at, kind, _) in enumerate(self.events):
            text = self.events[number][2]  # it may have changed meanwhile
            if kind == "o":
                time.sleep(min(at - last, MAX_PAUSE_SECONDS) * self.scale)
                write(text)
            elif kind == "i" and text.startswith("\x1b"):  # an answer of the terminal
                read_until(text[-1:])
            elif kind == "i":
                self.hear(text)
            last = at

    def hear(self, keys: str) -> None:
        """Wait for the line that these keys begin; an Enter at the prompt, as at a hand-over, is not waited for."""
        if not self.is_typing and (keys != "\r" or self.questions):
            line = read_until("\r")
            while not line and not self.questions:
                line = read_until("\r")
            self.take(line)
        self.is_typing = not keys.endswith("\r")

    def go_on(self) -> None:
        """Ask and answer as AWS documents it, until quit."""
        while not self.has_quit:
            self.take(read_until("\r"))
            write("\r\n")
            if self.questions:
                write(self.questions[0])
            else:
                write(f"{RESPONSE}\r\n{READY}" if self.has_response else READY)

    def take(self, line: str) -> None:
        """Take a line: the answer to a question, or a command, whose token file is written."""
        self.has_response = bool(line or self.questions)
        self.has_quit = line in {"quit", "exit"}
        if self.questions:
            del self.questions[0]
            return
        self.questions = next((list(asked) for command, asked in QUESTIONS.items() if re.match(command, line)), [])
        path = line.partition(" --token ")[2].partition(" ")[0]
        if path:
            self.rename(path)
            tokens = [{"unsigned": b64encode(os.urandom(32)).decode(), "signed": ""} for _ in range(3)]
            Path(path).write_text(json.dumps({"version": "2.0", "tokens": tokens}))

    def rename(self, path: str) -> None:
        """Put the name of the directory of this run in place of that of the recorded one, whatever pieces it is in."""
        name = NAME.findall(path)[-1]
        output = [number for number, event in enumerate(self.events) if event[1] == "o"]
        text = "".join(self.events[number][2] for number in output)
        cells = list(text)
        longest = max(map(len, NAME.findall(text)), default=0)
        for found in NAME.finditer(text):
            rest = name if len(found[0]) == longest else name[: len(found[0])]
            for cell in range(*found.span()):
                cells[cell], rest = (rest[:1], rest[1:]) if cell < found.end() - 1 else (rest, "")
        for number in output:
            at, kind, text = self.events[number]
            self.events[number] = (at, kind, "".join(cells[: len(text)]))
            del cells[: len(text)]


def write(text: str) -> None:
    left = text.encode()
    while left:
        left = left[os.write(1, left) :]


def read_until(end: str) -> str:
    """Read keys, and return what is before *end*; the end of the terminal is that of the CLI."""
    keys = b""
    while not keys.endswith(end.encode()):
        try:
            key = os.read(0, 1)
        except OSError:
            key = b""
        if not key:
            raise SystemExit
        keys += key
    return keys.decode()[: -len(end)]


def main(recording: str, scale: str, *_: str) -> None:
    """Play the part of the CLI."""
    tty.setraw(0)
    _header, *events = map(json.loads, Path(recording).read_text().splitlines())
    replay = Replay(events, float(scale))
    replay.play()
    replay.go_on()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A CloudHSM CLI that answers at once, so that a login takes only the time of its driver."""

import json
import os
import termios
from base64 import b64encode

READY = "aws-cloudhsm > "


def ask(prompt: str) -> str:
    """Write a prompt, and return the line that is typed."""
    os.write(1, prompt.encode())
    return os.read(0, 4096).decode().rstrip("\n")


def set_echo(*, on: bool) -> None:
    """Turn the echo of the terminal on or off."""
    mode = termios.tcgetattr(0)
    mode[3] = mode[3] | termios.ECHO if on else mode[3] & ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, mode)


def answer(command: str) -> None:
    """Write a response."""
    os.write(1, f"{json.dumps({'error_code': 0, 'data': command}, indent=2)}\n".encode())


path = ask(READY).split()[-1]
set_echo(on=False)
ask("Enter password:")
set_echo(on=True)
os.write(1, b"\n")
with open(path, "w", encoding="utf-8") as file:
    tokens = [{"unsigned": b64encode(os.urandom(32)).decode(), "signed": ""} for _ in range(3)]
    json.dump({"version": "2.0", "tokens": tokens}, file)
ask("Enter signed token file path (press enter if same as the unsigned token file):")
answer("login")
while (line := ask(READY)) != "quit":
    answer(line)

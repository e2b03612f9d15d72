"""A CLI that answers at once, and a bare driver of it: it waits for the words, and for nothing else."""

from __future__ import annotations

from pathlib import Path

READY = "aws-cloudhsm > "
LOGIN = ("-k", "officer1.key", "--username", "officer1", "--role", "admin", "--password", "file:password")
# "show FILE" ends it with what cat(1) writes.
CLI = r"""
import json, os, sys, termios
from base64 import b64encode

def show(text):
    os.write(1, text.encode())

def hear():
    return os.read(0, 4096).decode().rstrip("\n")

def echo(on):
    mode = termios.tcgetattr(0)
    mode[3] = mode[3] | termios.ECHO if on else mode[3] & ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, mode)

show("aws-cloudhsm > ")
path = hear().split()[-1]
echo(False)
show("Enter password:")
hear()
echo(True)
show("\n")
with open(path, "w") as file:
    tokens = [{"unsigned": b64encode(os.urandom(32)).decode(), "signed": ""} for _ in range(3)]
    json.dump({"version": "2.0", "tokens": tokens}, file)
show("Enter signed token file path (press enter if same as the unsigned token file):")
hear()
line = "login"
while line != "quit":
    if line.startswith("show "):
        os.execlp("cat", *line.replace("show", "cat").split())
    if line:
        show(json.dumps({"error_code": 0, "data": line}, indent=2) + "\n")
    show("aws-cloudhsm > ")
    line = hear()
"""
BARE = r"""
import os, pty, sys
from toktools import keys
from toktools.system.prompt import Source
from toktools.tokens import tokenfile
signer = keys.open_signer("officer1.key", Source.ask("--passin"), print)
pid, fd = pty.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])

def answer(question, line):
    shown = b""
    while not shown.endswith(question):
        shown += os.read(fd, 65536)
    os.write(fd, line + b"\r")

answer(b"aws-cloudhsm > ", b"login --username officer1 --role admin mfa-token-sign --token bare.json")
answer(b"Enter password:", b"for-practice")
answer(b"token file):", b"")
_, tokens = tokenfile.read("bare.json")
for index, digest in enumerate(tokens.digests):
    tokens.put(index, signer.sign(digest))
with open("bare.json", "wb") as file:
    file.write(tokens.dump())
for _ in range(int(sys.argv[1])):
    answer(b"aws-cloudhsm > ", b"user list")
answer(b"aws-cloudhsm > ", b"quit")
os.waitpid(pid, 0)
"""


def prepare(folder: Path, python: Path, size: int) -> None:
    """Write the CLI, the password and what the CLI is to show: "short", a line, and "long", so many bytes."""
    (folder / "cli.py").write_text(CLI)
    (folder / "cli").write_text(f"#!/bin/sh\nexec {python} -I -S {folder}/cli.py\n")
    (folder / "cli").chmod(0o700)
    (folder / "password").write_text("for-practice\n")
    (folder / "password").chmod(0o600)
    line = '      "key-reference": "0x00000000000c0fe1", "check-value": "0x1a2b3c", "class": "private-key",\n'
    (folder / "short").write_text(line)
    (folder / "long").write_text(line * (size // len(line) + 1))

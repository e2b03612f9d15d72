"""Log in at the CLI that the arguments name, and run a command: wait for the CLI's words, and for nothing else."""

import json
import os
import pty
import sys
from base64 import b64decode, b64encode

from toktools import keys
from toktools.system.prompt import Source

FILE = "bare.json"


def answer(prompt: bytes, line: str) -> None:
    """Wait for a prompt, and type a line."""
    shown = b""
    while not shown.endswith(prompt):
        shown += os.read(terminal, 65536)
    os.write(terminal, f"{line}\r".encode())


signer = keys.open_signer("officer1.key", Source.ask("--passin"), print)
pid, terminal = pty.fork()
if not pid:
    os.execvp(sys.argv[1], sys.argv[1:])
answer(b"aws-cloudhsm > ", f"login --username admin --role admin mfa-token-sign --token {FILE}")
answer(b"Enter password:", "for-practice")
answer(b"token file):", "")
with open(FILE, encoding="utf-8") as file:
    document = json.load(file)
for token in document["tokens"]:
    token["signed"] = b64encode(signer.sign(b64decode(token["unsigned"]))).decode()
with open(FILE, "w", encoding="utf-8") as file:
    json.dump(document, file)
answer(b"aws-cloudhsm > ", "user list")
answer(b"aws-cloudhsm > ", "quit")
os.waitpid(pid, 0)

"""Have an ssh-agent sign standard input: python3 agent-sign.py PUB < DATA > SIGNATURE.

PUB is an OpenSSH public key file with an RSA key that the agent of SSH_AUTH_SOCK has. It hashes with SHA-256. See
"Signers that always hash" in tok-recipes(7), and OpenSSH's PROTOCOL.agent.
"""

import base64
import os
import socket
import struct
import sys

SIGN_REQUEST, SIGN_RESPONSE = 13, 14
RSA_SHA2_256 = 2  # without this flag it signs SHA-1


def string(content: bytes) -> bytes:
    """Return *content* with its length before it."""
    return struct.pack(">I", len(content)) + content


with open(sys.argv[1]) as file:
    key = base64.b64decode(file.read().split()[1])
request = bytes([SIGN_REQUEST]) + string(key) + string(sys.stdin.buffer.read()) + struct.pack(">I", RSA_SHA2_256)
with socket.socket(socket.AF_UNIX) as agent:
    agent.connect(os.environ["SSH_AUTH_SOCK"])
    agent.sendall(string(request))
    answers = agent.makefile("rb")
    (length,) = struct.unpack(">I", answers.read(4))
    answer = answers.read(length)
if answer[0] != SIGN_RESPONSE:
    sys.exit("the agent does not sign with this key")
sys.stdout.buffer.write(answer[-256:])  # of an RSA-2048 key; the name of the algorithm stands before it

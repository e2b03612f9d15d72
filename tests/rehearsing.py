"""A rehearsed cluster with people in it."""

from __future__ import annotations

from pathlib import Path

from toktools import keys, passphrases, signatures, tokenfile
from toktools.encoding import encode
from toktools.rehearsal.cluster import ADMIN, Cluster, Session
from toktools.rehearsal.state import State

PASSWORD = "for-practice"


def signed(digests: list[bytes], key: signatures.SigningKey) -> tokenfile.TokenFile:
    """The file of an MFA login or set-up with every digest signed."""
    tokens = [
        {"unsigned": encode(digest).decode(), "signed": encode(signatures.signer(key)(digest)).decode()}
        for digest in digests
    ]
    return tokenfile.parse(tokenfile.dump_json({"version": "2.0", "tokens": tokens}))


def enrol(state: Path, username: str, key_file: Path) -> None:
    """Make an admin with a second factor, and the cluster if there is none."""
    key, _ = keys.private(str(key_file), passphrases.prompt("--passin"))
    with State(str(state)).cluster(3) as cluster:
        if not cluster.users:
            cluster.activate(PASSWORD)
        enrol_in(cluster, username, key)


def enrol_in(cluster: Cluster, username: str, key: signatures.SigningKey) -> None:
    """The same in a cluster in memory."""
    session, name = Session(), (username, ADMIN)
    cluster.login(session, ("admin", ADMIN), PASSWORD)
    cluster.create(session, name, PASSWORD)
    digests = cluster.begin_mfa_change(session, name, PASSWORD)
    cluster.end_mfa_change(session, signed(list(digests), key), keys.pem(key.public_key()))
    cluster.logout(session)

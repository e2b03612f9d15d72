"""A rehearsed cluster with people in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toktools.encoding import encode
from toktools.keys import open_signer
from toktools.keys.files import pem
from toktools.rehearsal.cluster import ADMIN, Session
from toktools.rehearsal.state import State
from toktools.system.prompt import Source
from toktools.tokens import jsonfile, tokenfile

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "for-practice"


def enrol(state: Path, username: str, key_file: Path) -> None:
    """Make an admin with a second factor, and the cluster if there is none."""
    signer = open_signer(str(key_file), Source.ask("--passin"), lambda _: None)
    assert signer.public_key is not None
    with State(str(state)).cluster(3) as cluster:
        if not cluster.users:
            cluster.activate(PASSWORD)
        session, name = Session(), (username, ADMIN)
        cluster.login(session, ("admin", ADMIN), PASSWORD)
        cluster.create(session, name, PASSWORD)
        digests = cluster.check_mfa_change(session, name, PASSWORD)
        tokens = [
            {"unsigned": encode(digest).decode(), "signed": encode(signer.sign(digest)).decode()} for digest in digests
        ]
        answer = tokenfile.parse(jsonfile.dump_ascii({"version": "2.0", "tokens": tokens}))
        cluster.change_mfa(session, name, PASSWORD, digests, answer, pem(signer.public_key), None, change_quorum=False)
        cluster.logout(session)

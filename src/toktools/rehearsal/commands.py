"""The commands that are rehearsed, group by group, and what the groups are for."""

from __future__ import annotations

from toktools.rehearsal.groups import cluster, crypto, key, login, quorum, user

GROUPS = {
    "": "A stand-in for the CloudHSM CLI",
    "cluster": "The cluster as a whole",
    "cluster mtls": "Trust anchors, and whether clients must use mutual TLS",
    "crypto": "Work with keys",
    "crypto sign": "Sign",
    "crypto verify": "Verify a signature",
    "key": "The keys of the cluster",
    "key generate-asymmetric-pair": "Make a key pair",
    "user": "The users of the cluster",
    "user change-mfa": "The second factor of a user",
    "user change-quorum": "The key with which a user approves",
    "user change-quorum token-sign": "A key that signs quorum tokens",
    "quorum": "What several users must approve",
    "quorum token-sign": "Quorum tokens and quorum values",
}
COMMANDS = (*cluster.COMMANDS, *login.COMMANDS, *user.COMMANDS, *quorum.COMMANDS, *key.COMMANDS, *crypto.COMMANDS)

"""The commands that are rehearsed, group by group, and what the groups are for."""

from __future__ import annotations

from toktools.rehearsal.groups import cluster, login, quorum, user

GROUPS = {
    "": "A stand-in for the CloudHSM CLI",
    "cluster": "The cluster as a whole",
    "user": "The users of the cluster",
    "user change-mfa": "The second factor of a user",
    "user change-quorum": "The key with which a user approves",
    "user change-quorum token-sign": "A key that signs quorum tokens",
    "quorum": "What several users must approve",
    "quorum token-sign": "Quorum tokens and quorum values",
}
COMMANDS = (*cluster.COMMANDS, *login.COMMANDS, *user.COMMANDS, *quorum.COMMANDS)

"""The wing of tok-rehearse: a cluster that keeps the rules of an HSM, its state in a file, and the CLI's dialogue."""

from toktools.options import Option

CLUSTER_ID = Option("--cluster-id", "ID", "taken and ignored: there is one cluster")

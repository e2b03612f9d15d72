"""The wing of tok-rehearse: a cluster that keeps the rules of an HSM, its state in a file, and the CLI's dialogue."""

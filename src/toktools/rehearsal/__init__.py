"""The stand-in for the CloudHSM CLI: a cluster that keeps an HSM's rules, its state in a file, and the CLI's shell."""

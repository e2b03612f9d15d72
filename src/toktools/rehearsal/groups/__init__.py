"""The groups of the CLI's commands, a room each (AWS CloudHSM User Guide, "Reference for CloudHSM CLI commands")."""

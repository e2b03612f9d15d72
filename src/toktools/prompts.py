"""The CloudHSM CLI's prompts, word for word (AWS CloudHSM User Guide, "Log in with MFA to an HSM")."""

READY = "aws-cloudhsm > "
PASSWORD = "Enter password:"  # noqa: S105 - a question
PASSWORD_AGAIN = "Confirm password:"  # noqa: S105 - the same
SIGNED_FILE = "Enter signed token file path (press enter if same as the unsigned token file):"
PUBLIC_KEY = "Enter public key PEM file path:"

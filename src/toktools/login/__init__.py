"""Drive the CloudHSM CLI at the other end of a terminal: read its responses, and type commands."""

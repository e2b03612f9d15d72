"""The CloudHSM CLI at the other end of a terminal: what is read there, and what is typed."""

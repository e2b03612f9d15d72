"""Sign AWS CloudHSM token files with small filters."""

__version__ = "0.3.0"

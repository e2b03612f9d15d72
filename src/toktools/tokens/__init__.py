"""Token files: kinds, signatures, approvals and descriptions."""

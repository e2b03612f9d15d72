"""The operating system: files, processes, secrets and terminals."""

"""The build's own step: the pages go into the wheel, and completions as they are made from the tables of options."""

from __future__ import annotations

import glob
import os
import shutil
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Share(BuildHookInterface[Any]):
    """Adds what share/ has: the pages, and completions for bash, zsh and fish that are made for the wheel alone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - as hatchling calls it
        """Add the files to the wheel's share/."""
        for page in glob.glob(os.path.join(self.root, "man", "*.[1-9]")):
            build_data["shared_data"][page] = f"share/man/man{page[-1]}/{os.path.basename(page)}"
        sys.path.insert(0, os.path.join(self.root, "src"))
        from toktools import completions

        self._folder = tempfile.mkdtemp(prefix="toktools-")
        for path, text in completions.files().items():
            made = os.path.join(self._folder, path.replace("/", "-"))
            with open(made, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(made, 0o644)  # whatever the umask is
            build_data["shared_data"][made] = f"share/{path}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - the same
        """Remove what was made."""
        shutil.rmtree(self._folder)

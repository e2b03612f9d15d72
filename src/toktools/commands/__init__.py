"""One room a tool."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing for its own would take a tenth of the start-up time
if TYPE_CHECKING:
    from toktools.options import CommandLine


def command_lines() -> list[CommandLine]:
    """Return the command line of every tool, by the tools' names."""
    import pkgutil
    from importlib import import_module

    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [import_module(f"{__name__}.{name}").COMMAND_LINE for name in names]

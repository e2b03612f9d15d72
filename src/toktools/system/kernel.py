"""What a tool asks of the kernel for its own process."""

from __future__ import annotations

_PR_SET_DUMPABLE = 4  # of prctl(2), as the next
_PR_SET_CHILD_SUBREAPER = 36


def hide_memory() -> None:
    """Leave no core dump of this process; on Linux, let none of the user's others read its memory.

    Where core dumps go to a program (core(5), "Piping core dumps"), their limit does not count, and only this does.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> bool:
    """Become the parent of what a command leaves behind (Linux), so that it can be found; say whether that worked."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> bool:
    try:
        import _ctypes  # what ctypes is made of; the import of ctypes itself takes five times as long

        function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type] # NULL: the program itself
        return bool(_ctypes.call_cdeclfunction(function, (option, value, 0, 0, 0)) == 0)
    except (ImportError, AttributeError, OSError):
        return False  # another system, or a Python that was built without

"""The chart of wall time against tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt


def draw(walls: Mapping[int, tuple[float, float]], path: Path) -> None:
    """Draw the seconds of the pipeline and of the documented steps, by the number of tokens, into an SVG file."""
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "toktools"
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    counts = sorted(walls)
    for index, (label, marker) in enumerate((("the pipeline", "o"), ("the documented steps", "s"))):
        axes.loglog(counts, [walls[count][index] for count in counts], marker=marker, label=label)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens")
    axes.set_ylabel("seconds of wall time")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})

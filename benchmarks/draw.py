"""Pictures of how cost grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import OURS, Curve


def draw(curve: Curve, path: Path) -> None:
    """Write a curve as SVG: the same figures make the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    settings: Any = {
        "svg.hashsalt": curve.name,
        "svg.fonttype": "none",
        "font.family": "sans-serif",
    }
    plain = FuncFormatter(lambda number, _: f"{number:,g}")
    with mpl.rc_context(settings):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.add_subplot()
        for name, points in curve.lines.items():
            across, seconds = zip(*points, strict=True) if points else ((), ())
            width = 2.5 if name == OURS else 1.2
            axes.plot(across, seconds, marker="o", linewidth=width, label=name.replace("`", ""))
        axes.set(xscale="log", yscale="log", xlabel=curve.across, ylabel="seconds")
        axes.xaxis.set_major_formatter(plain)
        axes.yaxis.set_major_formatter(plain)
        axes.grid(visible=True, which="major", alpha=0.3)
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None

"""Pictures of how cost grows."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import Curve


def draw(curve: Curve, path: Path) -> None:
    """Write a curve as SVG: the same figures make the same bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings = {"svg.hashsalt": curve.name, "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for name, points in curve.lines.items():
            across, seconds = zip(*points, strict=True) if points else ((), ())
            axes.plot(across, seconds, marker="o", label=name.replace("`", ""))
        axes.set(xscale="log", yscale="log", xlabel=curve.across, ylabel="seconds")
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None

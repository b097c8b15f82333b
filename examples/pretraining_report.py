"""Tables and figure of ``pretraining.py``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretraining_probe import Interval

OUTCOMES = {
    "structures": "artery, vein, nerve head, rest: balanced accuracy",
    "oxygen": "veins short of oxygen: accuracy",
}
SPECTRA, NONE = "no encoder", "none"  # the arms that are not pretrained


def format_tables(result: Mapping[str, Any]) -> str:
    """Return scores and paired differences as Markdown tables."""
    tables = []
    pure = {f"{arm} against none": gain for arm, gain in result["gains"].items() if "+" not in arm and arm != SPECTRA}
    for title, rows in (("pretrained on", result["scores"]), ("difference", pure | result["beside_real"])):
        sign = "+" if title == "difference" else ""
        lines = [[title, *OUTCOMES.values()], ["---"] * (1 + len(OUTCOMES))]
        lines += [[arm, *(format(Interval(**scores[name]), sign) for name in OUTCOMES)] for arm, scores in rows.items()]
        tables.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join(tables)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw every arm's scores with their intervals."""
    from matplotlib.figure import Figure

    arms, generators = list(result["scores"]), result["generators"]
    colors = ["tab:orange" if arm.split(" + ")[-1] in generators else "tab:blue" for arm in arms]
    colors = ["tab:gray" if arm in (SPECTRA, NONE) else color for arm, color in zip(arms, colors, strict=True)]
    figure = Figure(figsize=(9.5, 0.32 * len(arms) + 0.9), layout="constrained")
    panels = figure.subplots(1, len(OUTCOMES), sharey=True)
    for axes, (name, title) in zip(panels, OUTCOMES.items(), strict=True):
        for row, (arm, color) in enumerate(zip(arms, colors, strict=True)):
            interval = Interval(**result["scores"][arm][name])
            axes.plot([interval.low, interval.high], [row, row], color=color)
            axes.plot(interval.mean, row, "o", color=color)
        axes.axvline(result["scores"][NONE][name]["mean"], color="tab:gray", linewidth=0.8, linestyle=":")
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)

"""How ``pretraining.py`` shows its result: tables and a picture."""

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


def table(result: Mapping[str, Any]) -> str:
    """Return scores and paired differences as Markdown tables."""
    parts = []
    pure = {f"{arm} against none": gain for arm, gain in result["gains"].items() if "+" not in arm and arm != SPECTRA}
    for title, rows in (("pretrained on", result["scores"]), ("difference", pure | result["beside_real"])):
        sign = "+" if title == "difference" else ""
        lines = [[title, *OUTCOMES.values()], ["---"] * (1 + len(OUTCOMES))]
        lines += [[arm, *(format(Interval(**found[name]), sign) for name in OUTCOMES)] for arm, found in rows.items()]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join(parts)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw every arm's scores with their intervals."""
    from matplotlib.figure import Figure

    arms, generators = list(result["scores"]), result["generators"]
    kinds = ["tab:orange" if arm.split(" + ")[-1] in generators else "tab:blue" for arm in arms]
    kinds = ["tab:gray" if arm in (SPECTRA, NONE) else kind for arm, kind in zip(arms, kinds, strict=True)]
    figure = Figure(figsize=(9.5, 0.32 * len(arms) + 0.9), layout="constrained")
    panels = figure.subplots(1, len(OUTCOMES), sharey=True)
    for axes, (name, title) in zip(panels, OUTCOMES.items(), strict=True):
        for place, (arm, colour) in enumerate(zip(arms, kinds, strict=True)):
            found = Interval(**result["scores"][arm][name])
            axes.plot([found.low, found.high], [place, place], color=colour)
            axes.plot(found.mean, place, "o", color=colour)
        axes.axvline(result["scores"][NONE][name]["mean"], color="tab:gray", linewidth=0.8, linestyle=":")
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)

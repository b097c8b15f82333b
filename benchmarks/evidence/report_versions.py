"""Converts what reports of version 1 hold to the form of version 2, so that checkouts of both can be compared.

hseval itself refuses reports of version 1.
"""

from __future__ import annotations

from typing import Any

FIELDS = ("excess", "excess_interval", "p_value", "p_adjusted")  # of a score
STATISTICS = {
    "count": "splits", "full_value": "full_value", "value_std": "spread", "floor_std": "floor_spread",
    "value_details": "at_n", "floor_details": "floor_at_n", "no_interval": "no_interval",
}  # fmt: skip
OWN_MASKS_LABELS = (
    "value using the masks in the files (those of the samples may bias it)",
    "floor using the masks in the files",
)


def upgrade_report(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report of version 1 or 2 in the form of version 2."""
    return {**report, "scores": [_upgrade_score(score, report["version"]) for score in report["scores"]]}


def _upgrade_score(score: dict[str, Any], version: int) -> dict[str, Any]:
    details = dict(score["details"])
    samples = details.pop("samples", None)  # version 1: a detail or of the detectable difference, whichever came last
    if version != 1:
        return {**score, "details": details}
    fields = {name: details.pop(name, None) for name in FIELDS}
    statistics = {new: details.pop(old, None) for new, old in STATISTICS.items()}
    sizes = details.pop("full_size", {})
    statistics |= {"samples": sizes.get("samples"), "reference_cubes": sizes.get("reference")}
    statistics |= {"is_separated": details.pop("splits_apart", False) if "full_size" in score["details"] else None}
    if "smallest_difference" in details:
        differences = [details.pop(f"smallest_difference{suffix}") for suffix in ("", "_at_4n")]
        names = ("samples", "difference", "difference_at_4n")
        statistics["detectable"] = dict(zip(names, (samples, *differences), strict=True))
    if "resamples" in details:
        statistics["resamples"] = _upgrade_resamples(details.pop("resamples"))
    segmentation = _upgrade_segmentation(details)
    return {**score, **fields, "details": details, "statistics": statistics, "segmentation": segmentation}


def _upgrade_resamples(record: dict[str, Any]) -> dict[str, Any]:
    shared = {name: record[name] for name in ("seed", "size")}
    if "draws" in record:
        return {**shared, "draws": record["draws"]}
    samples = record["samples"]
    return {
        **shared,
        "replicates": {
            **{name: record[name] for name in ("splits", "real", "real_pairs", "shares")},
            "used_splits": record["used"],
            "generated_blocks": samples["blocks"],
            "generated_pairs": samples["pairs"],
            "generated_variance": samples["variance"],
            "second_order_variance": samples["twice"],
        },
    }


def _upgrade_segmentation(details: dict[str, Any]) -> dict[str, Any] | None:
    masks, own = details.pop("segmenter", None), details.pop("own_masks", None)
    if masks is None:
        return None
    if own is not None:
        details["shown"] = {name: value for name, value in details["shown"].items() if name not in OWN_MASKS_LABELS}
        stds = {"value_std": own.pop("spread", None), "floor_std": own.pop("floor_spread", None)}
        own = {**own, **stds}
    return {"dice": masks["dice"], "agreement": masks.get("agreement_with_samples"), "own_masks": own}

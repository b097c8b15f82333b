"""Writes the tables of docs/reliability.md from the records of the drivers: python -m benchmarks.reliability.page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.helpers.machine import RESULTS
from benchmarks.reliability.attempts import FAULTS
from benchmarks.reliability.kinds import KINDS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BLOCK = re.compile(r"(<!-- from (\w+)\.json -->\n).*?(<!-- end -->)", re.DOTALL)


def format_inputs(record: Mapping[str, Any]) -> str:
    """Return a row for every kind of damaged input."""
    rows = [
        [KINDS[name].title, kind["inputs"], kind["refused"], kind["read"], sum(kind[fault] for fault in FAULTS),
         f"{kind['peak_mib']} MiB", f"{kind['slowest_s']:g} s"]
        for name, kind in record["kinds"].items()
    ]  # fmt: skip
    total = sum(kind["inputs"] for kind in record["kinds"].values())
    head = ["input", "damaged", "refused", "read rightly", "faults", "most memory", "slowest"]
    return f"{total:,} damaged inputs, seed {record['seed']}, {_format_date(record)}:\n\n{_format_table(head, rows)}"


def format_faults(record: Mapping[str, Any]) -> str:
    """Return a row for every kind of fault."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for fault in record["faults"]:
        groups.setdefault(fault["fault"], []).append(fault)
    rows = [
        [name, ", ".join(dict.fromkeys(f"`{fault['job']}`" for fault in faults)), len(faults),
         sum(fault["status"] == 0 for fault in faults), sum(bool(fault["problem"]) for fault in faults)]
        for name, faults in groups.items()
    ]  # fmt: skip
    head = ["what happens", "to", "times", "ends as if undisturbed", "faults"]
    first = f"{len(record['faults'])} kills and faults, seed {record['seed']}, {_format_date(record)}:"
    return f"{first}\n\n{_format_table(head, rows)}"


def format_mutation(record: Mapping[str, Any]) -> str:
    """Return how many of the planted faults the tests found."""
    outcomes, tried = record["outcomes"], record["tried"]
    found, harmless = outcomes.get("found", 0), outcomes.get("harmless", 0)
    first = f"Of {record['mutants']:,} mutants {tried} were tried, seed {record['seed']}, {_format_date(record)}."
    return (
        f"{first} The tests found {found} ({found / tried:.0%}). {harmless} of the others change no result, for the "
        f"reasons in the record; {tried - found - harmless} are open."
    )


FORMATS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "inputs": format_inputs, "faults": format_faults, "mutation": format_mutation,
}  # fmt: skip


def fill_tables(page: str) -> str:
    """Return the page with its tables as the records say."""

    def fill(match: re.Match[str]) -> str:
        record = json.loads((RESULTS / "reliability" / f"{match[2]}.json").read_text(encoding="utf-8"))
        return f"{match[1]}\n{FORMATS[match[2]](record)}\n\n{match[3]}"

    return BLOCK.sub(fill, page)


def main() -> None:
    """Write the page."""
    PAGE.write_text(fill_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _format_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _format_date(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    return f"{machine['date']}, Python {machine['python']}"


if __name__ == "__main__":
    main()

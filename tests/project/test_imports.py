"""Imports point one way (docs/architecture.md): read from the source, imports inside functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FAMILIES = ("readers", "extractors", "metrics", "segmenters", "generators", "renderers", "degradations")
RECORDS = {"errors", "options", "seeds", "files", "cubes", "rows", "report", "exhibits", "hookspecs"}
# Plain functions that several families share.
HELPERS = {"colour", "excess", "field", "house", "layout", "many", "neighbors", "remarks", "wavelengths", "where"}
SHOWN = {"notebook"}  # what records name in order to show themselves, inside `_repr_html_` alone
ENTRY = {"cli", "builtin", "__main__"}
DOORS = {
    "hseval.readers.formats": {"open"},
    "hseval.degradations": {"qualifying", "cli"},
    "hseval.degradations.base": {"qualifying"},
}  # modules of a family that others may name


def name_of(path: Path) -> str:
    """Return a module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "hseval").rglob("*.py"))}


def imported(module: str) -> set[str]:
    """Return the modules of hseval that a module imports anywhere in its source, by dotted name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write the whole name"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in whole}
    return {name for name in found if name.split(".")[0] == "hseval"}


def part(module: str) -> str:
    """Return which part of hseval a module belongs to: ``metrics`` for ``hseval.metrics.fid``."""
    return [*module.split("."), "hseval"][1]


def modules_of(*parts: str) -> list[str]:
    return [module for module in MODULES if part(module) in parts]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_imports_itself_records_and_plain_helpers_alone(family: str) -> None:
    modules = modules_of(family)
    assert len(modules) > 1
    for module in modules:
        others = {part(name) for name in imported(module)} - {family}
        assert others <= RECORDS | HELPERS, f"{module} imports {sorted(others - RECORDS - HELPERS)}"


@pytest.mark.parametrize("helper", sorted(HELPERS))
def test_a_plain_helper_imports_records_and_helpers_alone(helper: str) -> None:
    others = {part(name) for name in imported(f"hseval.{helper}")}
    assert others <= RECORDS | HELPERS, f"{helper} imports {sorted(others - RECORDS - HELPERS)}"


@pytest.mark.parametrize("record", sorted(RECORDS))
def test_a_record_imports_records_alone(record: str) -> None:
    others = {part(name) for name in imported(f"hseval.{record}")}
    others -= SHOWN
    assert others <= RECORDS, f"{record} imports {sorted(others - RECORDS)}"


def test_nothing_imports_the_command_line_or_the_built_in_plugins() -> None:
    for module in MODULES:
        if part(module) not in ENTRY:
            assert not {part(name) for name in imported(module)} & {"cli", "builtin"}, module


def test_nothing_but_the_built_in_plugins_names_a_module_of_a_family() -> None:
    # What a family gives is found by name, in the registry; `open` alone reads a table of suffixes, and degradations
    # have a registry of their own, as no plugin brings any.
    for module in MODULES:
        if part(module) not in {*FAMILIES, "builtin"}:
            families = {name for name in imported(module) if part(name) in FAMILIES}
            assert all(part(module) in DOORS.get(name, ()) for name in families), module


def test_hseval_never_names_the_bundled_generator() -> None:
    for path in (ROOT / "hseval").rglob("*.py"):
        assert "hseval_ldm" not in path.read_text(encoding="utf-8"), path


def test_imports_are_seen_wherever_they_stand() -> None:
    assert "hseval.metrics.fid" in imported("hseval.builtin")  # inside a function
    assert "hseval.core.feature_table" in imported("hseval.core.hookspecs")  # for type checking alone
    assert "hseval.readers.hdf5_foreign" in imported("hseval.readers.formats")  # from a package

"""Imports run one way over the layers of docs/architecture.md, those inside functions included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the bottom up. A package imports lower layers and itself; packages that share a layer do not import each other.
LAYERS = (
    ("resources",),
    ("utils",),
    ("core",),
    ("data",),
    ("training",),
    ("readers", "extractors", "segmenters", "generators", "degradations", "inspection", "sampling"),
    ("pipeline",),
    ("stats",),
    ("metrics",),
    ("reporting",),
    ("scoring", "renderers"),
    ("qualification", "sweep", "generator_kit", "testing", "newplugin", "plugin"),
    ("comparison",),
    ("cli",),
    ("builtin", "__main__", "__init__"),
)
LDM_LAYERS = (
    ("utils",),
    ("options",),
    ("data",),
    ("models",),
    ("sampling",),
    ("training",),
    ("generator",),
    ("cli",),
    ("plugin",),
    ("__init__",),
)
FAMILIES = ("readers", "extractors", "metrics", "segmenters", "generators", "renderers", "degradations")
# Statistics take arrays and callables; what they need of sets and metrics is `core.evaluation`.
STATS_IMPORTS = {"utils", "core", "data"}
# Modules of a family that others may name: a table of suffixes; degradations, whose registry no plugin extends.
OPEN_MODULES = {
    "hseval.readers.formats": {"pipeline"},
    "hseval.degradations": {"qualification", "cli"},
    "hseval.degradations.base": {"qualification"},
}
# The one module of `sweep` that `comparison` reads: records.
COMPARISON_READS = {"hseval.sweep.results"}


def get_name(path: Path) -> str:
    """Return a module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    package: {get_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}
    for package in ("hseval", "hseval_ldm")
}
EVERY_MODULE = {name: path for modules in MODULES.values() for name, path in modules.items()}


def find_imports(module: str) -> set[str]:
    """Return the modules of hseval and hseval_ldm that a module imports anywhere in its source, by dotted name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(EVERY_MODULE[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write the whole name"
            full_names = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in EVERY_MODULE else str(node.module) for name in full_names}
    return {name for name in names if name.split(".")[0] in MODULES}


def get_room(module: str) -> str:
    """Return the package below the root that a module lies in: ``metrics`` for ``hseval.metrics.fid``."""
    return [*module.split("."), "__init__"][1]


def list_layers(layers: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {room: height for height, rooms in enumerate(layers) for room in rooms}


@pytest.mark.parametrize(("package", "layers"), [("hseval", LAYERS), ("hseval_ldm", LDM_LAYERS)])
def test_every_module_lies_in_a_layer(package: str, layers: tuple[tuple[str, ...], ...]) -> None:
    rooms = {get_room(module) for module in MODULES[package]}
    heights = list_layers(layers)
    assert rooms <= set(heights), f"no layer for {sorted(rooms - set(heights))}"


@pytest.mark.parametrize(("package", "layers"), [("hseval", LAYERS), ("hseval_ldm", LDM_LAYERS)])
def test_no_import_runs_up_or_sideways(package: str, layers: tuple[tuple[str, ...], ...]) -> None:
    heights = list_layers(layers)
    for module in MODULES[package]:
        for name in find_imports(module):
            if name.split(".")[0] != package or get_room(name) == get_room(module):
                continue
            if name == "hseval" and get_room(module) in {"builtin", "__main__"}:
                continue
            assert heights[get_room(name)] < heights[get_room(module)], f"{module} imports {name}"


@pytest.mark.parametrize("package", MODULES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    graph = {module: {name for name in find_imports(module) if name in MODULES[package]} for module in MODULES[package]}
    graph = {module: {name for name in names if name != module} for module, names in graph.items()}
    graph[package] = set()  # the root's exports are imported when they are first used
    while graph:
        leaves = {module for module, names in graph.items() if not names & graph.keys()}
        assert leaves, f"circle among {sorted(graph)}"
        graph = {module: names for module, names in graph.items() if module not in leaves}


def test_statistics_import_neither_pipeline_nor_metrics() -> None:
    for module in MODULES["hseval"]:
        if get_room(module) == "stats":
            others = {get_room(name) for name in find_imports(module)} - {"stats"}
            assert others <= STATS_IMPORTS, f"{module} imports {sorted(others - STATS_IMPORTS)}"


def test_nothing_but_the_built_in_plugins_names_a_module_of_a_family() -> None:
    # What a family gives is found by name, in the registry.
    for module in MODULES["hseval"]:
        if get_room(module) not in {*FAMILIES, "builtin"}:
            families = {name for name in find_imports(module) if get_room(name) in FAMILIES}
            assert all(get_room(module) in OPEN_MODULES.get(name, ()) for name in families), (module, families)


def test_families_do_not_import_each_other() -> None:
    for module in MODULES["hseval"]:
        if get_room(module) in FAMILIES:
            others = {get_room(name) for name in find_imports(module)} & set(FAMILIES) - {get_room(module)}
            assert not others, f"{module} imports {sorted(others)}"


def test_comparison_takes_records_alone_from_sweeps() -> None:
    for module in MODULES["hseval"]:
        if get_room(module) == "comparison":
            sweeps = {name for name in find_imports(module) if get_room(name) == "sweep"}
            assert sweeps <= COMPARISON_READS, module


def test_hseval_never_names_the_bundled_generator() -> None:
    for path in (ROOT / "hseval").rglob("*.py"):
        assert "hseval_ldm" not in path.read_text(encoding="utf-8"), path


def test_imports_are_found_wherever_they_stand() -> None:
    assert "hseval.metrics.fid" in find_imports("hseval.builtin")  # inside a function
    assert "hseval.core.feature_table" in find_imports("hseval.core.protocols")  # for type checking alone
    assert "hseval.readers.hdf5_foreign" in find_imports("hseval.readers.formats")  # from a package


def test_names_that_others_import_are_where_they_were() -> None:
    import hseval
    from hseval.metrics.frechet import frechet_distance
    from hseval.metrics.ssim import ms_ssim

    assert all(callable(each) for each in (frechet_distance, ms_ssim, hseval.open_set, hseval.ArraySet, hseval.score))

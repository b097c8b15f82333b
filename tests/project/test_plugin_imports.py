"""``hseval.plugin`` is the one import of authors: light, complete, and with the kits all that bundled plugins need."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from hseval import plugin
from hseval.newplugin.naming import TEMPLATE_KINDS, PluginNames
from hseval.newplugin.writing import render_templates
from tests.project.test_lazy_imports import HEAVY, list_loaded_modules

ROOT = Path(__file__).parents[2]
PUBLIC = {"hseval", "hseval.plugin", "hseval.generator_kit", "hseval.testing"}
BUNDLED = sorted(
    path for folder in ("hseval_ldm", "plugins") for path in (ROOT / folder).rglob("*.py") if "build" not in path.parts
)


def find_hseval_imports(source: str) -> Iterator[str]:
    """Yield the modules of hseval that a source imports from, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "hseval")
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "hseval":
            yield str(node.module)


def test_importing_it_loads_no_heavy_library() -> None:
    assert list_loaded_modules("import hseval.plugin") & HEAVY == set()


def test_every_name_is_there() -> None:
    assert all(hasattr(plugin, name) for name in plugin.__all__)
    with pytest.raises(AttributeError, match=r"module 'hseval.plugin' has no attribute 'Cubes'"):
        plugin.Cubes  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: str(path.relative_to(ROOT)))
def test_bundled_plugins_import_public_modules_alone(path: Path) -> None:
    assert set(find_hseval_imports(path.read_text(encoding="utf-8"))) <= PUBLIC


@pytest.mark.parametrize("kind", TEMPLATE_KINDS)
def test_new_plugins_import_public_modules_alone(kind: str) -> None:
    texts = render_templates(PluginNames(kind, "imported"))
    sources = [text for name, text in texts.items() if name.endswith(".py")]
    modules = {module for source in sources for module in find_hseval_imports(source)}
    assert "hseval.plugin" in modules
    assert modules <= PUBLIC


def test_private_imports_are_found_wherever_they_stand() -> None:
    nested = "def f():\n    from hseval.core.cubes import FOV\n    import hseval.utils.errors"
    assert set(find_hseval_imports(nested)) == {"hseval.core.cubes", "hseval.utils.errors"}

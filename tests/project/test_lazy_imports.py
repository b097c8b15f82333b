"""Start-up stays light: help and plain imports load no numerical library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "torch", "scipy", "h5py", "faiss", "sklearn", "rich", "altair", "jinja2", "matplotlib", "PIL"}
SLOW_TO_LOAD = {"torch", "faiss", "sklearn", "scipy", "tensorly"}


def list_loaded_modules(code: str) -> set[str]:
    process = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sorted(sys.modules), file=sys.stderr)"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    return {name.split(".")[0] for name in process.stderr.split()}


HELP = """
import hseval.cli.main as m
sys.argv = ["hseval", "--help"]
try:
    m.main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize("code", ["import hseval", HELP], ids=["import", "help"])
def test_neither_import_nor_help_loads_a_heavy_library(code: str) -> None:
    assert list_loaded_modules(code) & HEAVY == set()


def test_listing_plugins_loads_none_that_takes_long() -> None:
    code = HELP.replace("--help", "plugins")
    assert list_loaded_modules(code) & SLOW_TO_LOAD == set()

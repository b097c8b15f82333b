"""The baseline generator ``pca``: this module is the entry point, its hooks are what hseval calls."""

from __future__ import annotations

from hseval import hookimpl


@hookimpl
def hseval_generators() -> list[type]:
    """Import inside the hook, so that installing this costs ``hseval --help`` nothing."""
    from hseval_pca.generator import Pca

    return [Pca]

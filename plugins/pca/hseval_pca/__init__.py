"""The baseline generator ``pca``: this module is the entry point whose hooks hseval calls."""

from __future__ import annotations

from hseval.plugin import hookimpl


@hookimpl
def hseval_generators() -> list[type]:
    """Return the generator; it is imported here, so that ``hseval --help`` stays fast."""
    from hseval_pca.generator import Pca

    return [Pca]

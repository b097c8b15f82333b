"""The generator ``monai``: this module is the entry point, its hooks are what hseval calls."""

from __future__ import annotations

from hseval import hookimpl


@hookimpl
def hseval_generators() -> list[type]:
    """Import inside the hook; torch and MONAI wait until the generator is used."""
    from hseval_monai.generator import Monai

    return [Monai]

"""The generator ``monai``: this module is the entry point whose hooks hseval calls."""

from __future__ import annotations

from hseval.plugin import hookimpl


@hookimpl
def hseval_generators() -> list[type]:
    """Return the generator; it is imported here, torch and MONAI only when it is used."""
    from hseval_monai.generator import Monai

    return [Monai]

"""The generator ``diffusers``: this module is the entry point, its hooks are what hseval calls."""

from __future__ import annotations

from hseval import hookimpl


@hookimpl
def hseval_generators() -> list[type]:
    """Import inside the hook; torch and diffusers wait until the generator is used."""
    from hseval_diffusers.generator import Diffusers

    return [Diffusers]

"""The generator ``diffusers``: this module is the entry point whose hooks hseval calls."""

from __future__ import annotations

from hseval.plugin import hookimpl


@hookimpl
def hseval_generators() -> list[type]:
    """Return the generator; it is imported here, torch and diffusers only when it is used."""
    from hseval_diffusers.generator import Diffusers

    return [Diffusers]

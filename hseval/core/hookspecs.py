"""The hooks that plugins implement; a hook returns classes, whose Protocols are in :mod:`hseval.core.protocols`.

Built-in classes are registered through the same hooks (:mod:`hseval.builtin`). A class is instantiated with its
``Options`` dataclass when a command needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from hseval.core.protocols import Extractor, Generator, Metric, Reader, Renderer, Segmenter

hookspec = pluggy.HookspecMarker("hseval")
hookimpl = pluggy.HookimplMarker("hseval")


@hookspec
def hseval_readers() -> Sequence[type[Reader]]:  # type: ignore[empty-body]
    """Return reader classes."""


@hookspec
def hseval_extractors() -> Sequence[type[Extractor]]:  # type: ignore[empty-body]
    """Return extractor classes."""


@hookspec
def hseval_metrics() -> Sequence[type[Metric]]:  # type: ignore[empty-body]
    """Return metric classes."""


@hookspec
def hseval_segmenters() -> Sequence[type[Segmenter]]:  # type: ignore[empty-body]
    """Return segmenter classes."""


@hookspec
def hseval_generators() -> Sequence[type[Generator]]:  # type: ignore[empty-body]
    """Return generator classes."""


@hookspec
def hseval_renderers() -> Sequence[type[Renderer]]:  # type: ignore[empty-body]
    """Return renderer classes."""


@hookspec
def hseval_commands(cli: click.Group) -> None:
    """Add click commands to the command line."""

"""Options that several commands have, each with one help text, and the completion of plugins' names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import click
from click.shell_completion import CompletionItem

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., Any] | click.Command)


class Decorator(Protocol):
    """What adds an option to a command's function."""

    def __call__(self, function: CommandFunction, /) -> CommandFunction:
        """Return the function with the option."""


layout_option = click.option(
    "--layout", type=click.Choice(["byx", "yxb"]), metavar="byx|yxb", help="Axis order, where files do not state it."
)
wavelengths_option = click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm); overrides the files.")
device_option = click.option("--device", metavar="D", help="cpu, cuda, cuda:1 ...; default: CUDA where available.")
workers_option = click.option(
    "--workers", type=click.IntRange(min=0), metavar="N", help="Worker processes; default: as worthwhile."
)
batch_size_option = click.option(
    "--batch-size", type=click.IntRange(min=1), metavar="N", help="Cubes per call of an extractor."
)
config_option = click.option("--config", metavar="F", type=click.Path(), help="TOML file of options by plugin.")
no_cache_option = click.option("--no-cache", is_flag=True, help="Neither use nor fill the cache.")


def set_option(help: str) -> Decorator:
    """Return the option ``--set key=value``, which may be repeated."""
    return click.option("--set", "assignments", multiple=True, metavar="K=V", help=help)


def seed_option(help: str) -> Decorator:
    """Return the option ``--seed``."""
    return click.option("--seed", type=int, metavar="N", default=0, show_default=True, callback=_check_seed, help=help)


def names_option(*flags: str, help: str, metavar: str = "A,B", kind: str | None = None) -> Decorator:
    """Return an option that takes names, separated by commas or repeated; its value is a list, None if not given."""
    complete = None if kind is None else complete_names(kind)
    return click.option(
        *flags, multiple=True, metavar=metavar, callback=_split_names, shell_complete=complete, help=help
    )


def quiet_option(help: str = "Print no progress.", *, expose_value: bool = False) -> Decorator:
    """Return the option ``-q``, which silences all progress of the command."""
    return click.option("-q", "--quiet", is_flag=True, expose_value=expose_value, callback=_silence, help=help)


def complete_names(
    *kinds: str, also: Iterable[str] = ()
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return the shell's completion of plugins' names; of several, separated by commas, it completes the last."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from hseval.core.plugin_manager import get_plugins

        first, comma, last = incomplete.rpartition(",")
        names = [*also, *(name for kind in kinds for name in get_plugins().get_names(kind))]
        return [CompletionItem(first + comma + name) for name in names if name.startswith(last)]

    return complete


def _split_names(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> list[str] | None:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()] if texts else None


def _check_seed(context: click.Context, parameter: click.Parameter, value: int) -> int:
    if not 0 <= value < 2**64:  # not an IntRange, whose long upper bound would be in the help text
        raise click.BadParameter(f"{value}; 0 to 2^64 - 1 expected")
    return value


def _silence(context: click.Context, parameter: click.Parameter, is_quiet: bool) -> bool:
    from hseval.utils.progress import silence_progress

    if is_quiet:
        context.with_resource(silence_progress())
    return is_quiet

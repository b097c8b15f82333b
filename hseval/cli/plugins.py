"""``hseval plugins``: the installed plugins with their options, and the broken ones."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hseval.core.plugin_manager import PluginManager, Registration

PluginListing = dict[str, list[dict[str, Any]]]


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins_command(as_json: bool) -> None:
    """List the installed plugins and their options.

    Broken plugins are listed with the reason.
    """
    import json

    from hseval.core.plugin_manager import get_plugins
    from hseval.core.report import to_jsonable

    listing = list_plugins(get_plugins())
    if as_json:
        click.echo(json.dumps(to_jsonable(listing), indent=1))
    elif sys.stdout.isatty():
        _print_tables(listing)
    else:
        _print_lines(listing)


def list_plugins(registry: PluginManager) -> PluginListing:
    """Return ``{"plugins": [...], "broken": [...]}``; a broken plugin is found when its kind is asked for."""
    from hseval.core.plugin_manager import HOOK_NAMES, BrokenPlugin, get_version
    from hseval.utils.errors import format_error

    entries, broken = [], []
    for registration in [
        registry.get_registrations(kind)[name][0] for kind in HOOK_NAMES for name in registry.get_names(kind)
    ]:
        try:
            entries.append(_build_entry(registration))
        except Exception as error:  # noqa: BLE001 - a third party's class may lack anything
            reason = f"{registration.kind} {registration.name!r}: {format_error(error)}"
            module = registration.plugin.rsplit(":", maxsplit=1)[-1]
            broken.append(BrokenPlugin(module, registration.distribution, reason))
    return {
        "plugins": entries,
        "broken": [
            {**dataclasses.asdict(entry), "version": get_version(entry.distribution)}
            for entry in (*registry.broken_plugins, *broken)
        ],
    }


def _build_entry(registration: Registration) -> dict[str, Any]:
    from hseval.core.options import describe_options
    from hseval.core.plugin_manager import get_version

    return {
        "kind": registration.kind,
        "name": registration.name,
        "summary": _get_summary(registration),
        "distribution": registration.distribution,
        "version": get_version(registration.distribution),
        "options": [dataclasses.asdict(option) for option in describe_options(registration.factory)],
    }


def _get_summary(registration: Registration) -> str:
    factory = registration.factory
    return str(factory.get_short_help_str(limit=120) if registration.kind == "command" else factory.summary)


def _print_lines(listing: PluginListing) -> None:
    for entry in listing["plugins"]:
        click.echo(f"{entry['kind']} {entry['name']} ({_format_source(entry)}): {entry['summary']}")
        for option in entry["options"]:
            click.echo(f"    {_format_assignment(option)} ({option['type']}): {option['help']}")
    for entry in listing["broken"]:
        click.echo(f"broken: {entry['plugin']} ({_format_source(entry)}): {entry['error']}")


def _print_tables(listing: PluginListing) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("kind", "name", "summary and --set options", "distribution"):
        table.add_column(heading, overflow="fold")
    for entry in listing["plugins"]:
        lines = [
            entry["summary"],
            *(f"  {_format_assignment(option)}  {option['help']}" for option in entry["options"]),
        ]
        cells = [escape(text) for text in (entry["kind"], entry["name"], "\n".join(lines), _format_source(entry))]
        table.add_row(cells[0], f"[bold]{cells[1]}[/]", *cells[2:])
    console = Console()
    console.print(table)
    for entry in listing["broken"]:
        message = escape(f"{entry['plugin']} ({_format_source(entry)}): {entry['error']}")
        console.print(f"[bold red]broken[/] {message}")


def _format_assignment(option: dict[str, Any]) -> str:
    default = option["default"]
    text = ",".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
    return f"{option['name']}={'none' if default is None else text}"


def _format_source(entry: dict[str, Any]) -> str:
    return f"{entry['distribution']} {entry['version'] or ''}".rstrip()

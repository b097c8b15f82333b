"""``hseval plugins``: what is installed, what it gives, and what is broken."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hseval.core.plugin_manager import Offer, Plugins

Listing = dict[str, list[dict[str, Any]]]


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins_command(as_json: bool) -> None:
    """List what every plugin gives, with options and their defaults, and which plugins are broken and why."""
    import json

    from hseval.core.plugin_manager import plugins
    from hseval.core.report import plain

    listing = listed(plugins())
    if as_json:
        click.echo(json.dumps(plain(listing), indent=1))
    elif sys.stdout.isatty():
        _print_tables(listing)
    else:
        _print_lines(listing)


def listed(registry: Plugins) -> Listing:
    """Return ``{"plugins": [...], "broken": [...]}``; asking for every kind is what finds the broken ones."""
    from hseval.core.plugin_manager import KINDS, Broken, version_of
    from hseval.utils.errors import first_line

    entries, broken = [], []
    for offer in [registry.offers(kind)[name][0] for kind in KINDS for name in registry.names(kind)]:
        try:
            entries.append(_entry(offer))
        except Exception as error:  # noqa: BLE001 - a third party's class may lack anything
            why = f"{offer.kind} {offer.name!r}: {first_line(error)}"
            broken.append(Broken(offer.plugin.rsplit(":", maxsplit=1)[-1], offer.distribution, why))
    told = [*registry.broken, *broken]
    return {
        "plugins": entries,
        "broken": [{**dataclasses.asdict(entry), "version": version_of(entry.distribution)} for entry in told],
    }


def _entry(offer: Offer) -> dict[str, Any]:
    from hseval.core.options import describe_options
    from hseval.core.plugin_manager import version_of

    return {
        "kind": offer.kind,
        "name": offer.name,
        "summary": _summary(offer),
        "distribution": offer.distribution,
        "version": version_of(offer.distribution),
        "options": [dataclasses.asdict(found) for found in describe_options(offer.factory)],
    }


def _summary(offer: Offer) -> str:
    found = offer.factory.get_short_help_str(limit=120) if offer.kind == "command" else offer.factory.summary
    return str(found)


def _print_lines(listing: Listing) -> None:
    for entry in listing["plugins"]:
        click.echo(f"{entry['kind']} {entry['name']} ({_source(entry)}): {entry['summary']}")
        for found in entry["options"]:
            click.echo(f"    {_assignment(found)} ({found['type']}): {found['help']}")
    for entry in listing["broken"]:
        click.echo(f"broken: {entry['plugin']} ({_source(entry)}): {entry['error']}")


def _print_tables(listing: Listing) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("kind", "name", "what it does, and --set options", "from"):
        table.add_column(heading, overflow="fold")
    for entry in listing["plugins"]:
        lines = [entry["summary"], *(f"  {_assignment(found)}  {found['help']}" for found in entry["options"])]
        cells = [escape(text) for text in (entry["kind"], entry["name"], "\n".join(lines), _source(entry))]
        table.add_row(cells[0], f"[bold]{cells[1]}[/]", *cells[2:])
    console = Console()
    console.print(table)
    for entry in listing["broken"]:
        told = escape(f"{entry['plugin']} ({_source(entry)}): {entry['error']}")
        console.print(f"[bold red]broken[/] {told}")


def _assignment(found: dict[str, Any]) -> str:
    default = found["default"]
    text = ",".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
    return f"{found['name']}={'none' if default is None else text}"


def _source(entry: dict[str, Any]) -> str:
    return f"{entry['distribution']} {entry['version'] or ''}".rstrip()

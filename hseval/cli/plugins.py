"""``hseval plugins``: the installed plugins with their options, and the broken ones."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import shutil
import sys
from typing import Any

import click

from hseval.cli.shared_options import complete_names
from hseval.core.options import describe_options
from hseval.core.plugin_manager import (
    BUILTIN_DISTRIBUTION,
    HOOK_NAMES,
    BrokenPlugin,
    PluginManager,
    Registration,
    get_plugins,
    get_version,
)
from hseval.utils.errors import HsevalError, format_error, format_suggestion

PluginListing = dict[str, list[dict[str, Any]]]


@click.command("plugins")
@click.argument(
    "selection", required=False, metavar="[NAME|KIND]", shell_complete=complete_names(*HOOK_NAMES, also=HOOK_NAMES)
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins_command(selection: str | None, as_json: bool) -> None:
    """List the installed plugins, or show one with its options.

    KIND is reader, extractor, metric, segmenter, generator, renderer or command. Broken plugins are listed with the
    reason.
    """
    import json

    from hseval.core.report import to_jsonable

    listing = list_plugins(get_plugins())
    is_single = selection is not None and selection.removesuffix("s") not in HOOK_NAMES
    if selection is not None:
        listing = _select_entries(listing, selection)
    if as_json:
        print(json.dumps(to_jsonable(listing), indent=1))
    elif sys.stdout.isatty():
        _print_sections(listing, is_single=is_single)
    else:
        _print_lines(listing, is_single=is_single)


def _select_entries(listing: PluginListing, selection: str) -> PluginListing:
    """Return the plugins of a kind with all broken ones, or those of a name.

    Raises:
        HsevalError: there is neither such a kind nor such a name; the message names the nearest one.
    """
    kind = selection.removesuffix("s")
    if kind in HOOK_NAMES:
        return {**listing, "plugins": [entry for entry in listing["plugins"] if entry["kind"] == kind]}
    named = [entry for entry in listing["plugins"] if entry["name"] == selection]
    broken = [entry for entry in listing["broken"] if selection in (entry["plugin"], entry["distribution"])]
    if not named and not broken:
        names = [*HOOK_NAMES, *(entry["name"] for entry in listing["plugins"])]
        nearest = difflib.get_close_matches(selection, names, n=1, cutoff=0.5) or HOOK_NAMES
        raise HsevalError(f"no plugin or kind is called {selection!r}{format_suggestion(selection, nearest)}")
    return {"plugins": named, "broken": broken}


def list_plugins(registry: PluginManager) -> PluginListing:
    """Return ``{"plugins": [...], "broken": [...]}``; a broken plugin is found when its kind is asked for."""
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


def _print_lines(listing: PluginListing, *, is_single: bool) -> None:
    for entry in listing["plugins"]:
        print(f"{entry['kind']} {entry['name']} ({_format_source(entry)}): {entry['summary']}")
        for option in entry["options"] if is_single else ():
            print(f"    {_format_assignment(option)} ({option['type']}): {option['help']}")
    for entry in listing["broken"]:
        print(f"broken: {entry['plugin']} ({_format_source(entry)}): {entry['error']}")


def _print_sections(listing: PluginListing, *, is_single: bool) -> None:
    """Print in the layout of ``--help``: a section a kind, or a plugin with its options."""
    formatter = click.HelpFormatter(width=max(50, shutil.get_terminal_size().columns - 2))
    if is_single:
        for entry in listing["plugins"]:
            with formatter.section(f"{entry['kind']} {entry['name']} ({_format_source(entry)})"):
                formatter.write_text(entry["summary"])
                formatter.write_dl([(_format_assignment(item), item["help"]) for item in entry["options"]])
    else:
        for kind, entries in itertools.groupby(listing["plugins"], key=lambda entry: str(entry["kind"])):
            with formatter.section(kind):
                formatter.write_dl([(entry["name"], _format_summary(entry)) for entry in entries])
    if listing["broken"]:
        with formatter.section("broken"):
            formatter.write_dl(
                [(f"{item['plugin']} ({_format_source(item)})", item["error"]) for item in listing["broken"]]
            )
    print(formatter.getvalue().strip("\n"))


def _format_summary(entry: dict[str, Any]) -> str:
    return (
        entry["summary"]
        if entry["distribution"] == BUILTIN_DISTRIBUTION
        else f"{entry['summary']} ({_format_source(entry)})"
    )


def _format_assignment(option: dict[str, Any]) -> str:
    default = option["default"]
    text = ",".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
    return f"{option['name']}={'none' if default is None else text}"


def _format_source(entry: dict[str, Any]) -> str:
    return f"{entry['distribution']} {entry['version'] or ''}".rstrip()

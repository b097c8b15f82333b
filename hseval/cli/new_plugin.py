"""``hseval new-plugin KIND NAME [--out FOLDER]``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("new-plugin")
@click.argument("kind", metavar="metric|extractor|generator|reader")
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: hseval-NAME in the current folder."
)
def new_plugin(kind: str, name: str, out: Path | None) -> None:
    """Create a plugin that works, as a starting point.

    A small package with passing tests, to be adapted.
    """
    from hseval.core.plugin_manager import get_plugins
    from hseval.newplugin.naming import validate_names
    from hseval.newplugin.writing import write_plugin

    names = validate_names(kind, name, get_plugins())
    folder = out or Path(names.distribution)
    for path in write_plugin(names, folder):
        print(path)
    print(f"next: cd {folder}; pip install -e '.[test]'; pytest; then adapt {names.module}.py")

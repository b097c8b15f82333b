"""``hseval preview``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet

OUTPUT_SUFFIXES = (".png", ".gif")


@click.command()
@click.argument("path", metavar="SET")
@click.option("--out", required=True, metavar="F.png|F.gif", help="A contact sheet, or a film over wavelength.")
@click.option("-n", "--cubes", type=click.IntRange(1, 100), default=6, show_default=True, help="How many cubes.")
@click.option("--ids", metavar="A,B", help="These cubes, in this order, in place of -n drawn by content.")
@click.option("--wavelengths-shown", "shown", metavar="A,B", help="nm of the sheet's rows; default: four, spread.")
@click.option("--size", type=click.IntRange(min=16, max=2000), default=160, show_default=True, help="px a picture.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw.")
@click.option("--layout", type=click.Choice(["byx", "yxb"]), help="Axis order, where the file does not state it.")
@click.option("--wavelengths", metavar="W", help="FILE or 450:905:16 (nm), in place of what the file says.")
@click.option("--no-cache", is_flag=True, help="Hash every cube anew, and remember none.")
def preview(path: str, out: str, **params: Any) -> None:
    """Show what is in SET: cubes side by side in true colour and at single wavelengths.

    Colour is what an eye would see under daylight (CIE 1931 observer, all bands). What the bands do not measure of it
    is told; where they tell too little, false colour stands in.
    """
    from hseval.pipeline.open import open_set
    from hseval.reporting.preview.contact_sheet import save_film, save_sheet
    from hseval.reporting.preview.preview import build_preview as painted
    from hseval.reporting.preview.preview import find_indices
    from hseval.utils.atomic_files import check_writable

    target = Path(out)
    if target.suffix.lower() not in OUTPUT_SUFFIXES:
        raise HsevalError(f"--out {out}: expected a name that ends in .png (contact sheet) or .gif (film)")
    check_writable(target)
    wanted = _parse_numbers(params["shown"])
    cubes = open_set(path, layout=params["layout"], wavelengths=params["wavelengths"])
    if target.resolve() in {Path(path).resolve(), *_collect_sources(cubes)}:
        raise HsevalError(f"--out {out}: is an input; name another file")
    ids = None if params["ids"] is None else [each.strip() for each in params["ids"].split(",") if each.strip()]
    places = find_indices(cubes, ids) if ids else _draw_indices(cubes, params)
    found = painted(cubes, places, wavelengths=wanted, size=params["size"])
    save = save_film if target.suffix.lower() == ".gif" else save_sheet
    save(found, target, size=params["size"])
    click.echo(f"{out}: {len(found.ids)} of {len(cubes)} cubes: {', '.join(found.ids)}")
    click.echo(
        found.style.color_note if found.style.color_label else f"{found.style.color_note} {found.style.composite}"
    )


def _draw_indices(cubes: CubeSet, params: dict[str, Any]) -> list[int]:
    from hseval.cli.progress import ProgressReporter
    from hseval.reporting.preview.preview import draw_indices
    from hseval.utils.feature_cache import FeatureCache, get_cache_path

    kept = None if params["no_cache"] else get_cache_path()
    with FeatureCache(kept) as cache, ProgressReporter(hint="; --ids reads these alone") as bar:
        return draw_indices(
            cubes,
            params["cubes"],
            seed=params["seed"],
            cache=cache,
            progress=lambda done, total: bar.update("content", done, total),
        )


def _collect_sources(cubes: CubeSet) -> set[Path]:
    return {source.resolve() for place in range(min(len(cubes), 100)) for source in cubes.sources(place)}


def _parse_numbers(text: str | None) -> list[float]:
    try:
        return [float(each) for each in (text or "").split(",") if each.strip()]
    except ValueError:
        raise HsevalError(f"--wavelengths-shown {text}: expected numbers, as 500,560,800") from None

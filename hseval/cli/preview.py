"""``hseval preview``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hseval.cli import shared_options as shared
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet

OUTPUT_SUFFIXES = (".png", ".gif")


@click.command()
@click.argument("path", metavar="SET", type=click.Path())
@click.option(
    "--out", required=True, type=click.Path(), metavar="F.png|F.gif", help="PNG: contact sheet; GIF: animation."
)
@click.option(
    "-n", "--cubes", type=click.IntRange(1, 100), metavar="N", default=6, show_default=True, help="Number of cubes."
)
@shared.names_option("--ids", help="Show these cubes, in this order.")
@click.option("--wavelengths-shown", "visible_nm", metavar="A,B", help="nm; default: 4, evenly spaced.")
@click.option(
    "--size", type=click.IntRange(16, 2000), metavar="PX", default=160, show_default=True, help="Side of an image."
)
@shared.seed_option("Seed of the random draw.")
@shared.layout_option
@shared.wavelengths_option
@click.option("--no-cache", is_flag=True, help="Hash all cubes again, and store no hash.")
@shared.quiet_option()
def preview(path: str, out: str, **params: Any) -> None:
    """Draw cubes in true color and at single wavelengths.

    Color is what an eye would see under daylight; false color where the bands measure too little of that.
    """
    from hseval.pipeline.open import open_set
    from hseval.reporting.preview.contact_sheet import save_film, save_sheet
    from hseval.reporting.preview.preview import build_preview, find_indices
    from hseval.utils.atomic_files import check_writable
    from hseval.utils.plural import format_count

    target = Path(out)
    if target.suffix.lower() not in OUTPUT_SUFFIXES:
        raise HsevalError(f"--out {out}: expected a name that ends in .png (contact sheet) or .gif (animation)")
    check_writable(target)
    visible_nm = _parse_numbers(params["visible_nm"])
    cubes = open_set(path, layout=params["layout"], wavelengths=params["wavelengths"])
    if target.resolve() in {Path(path).resolve(), *_collect_sources(cubes)}:
        raise HsevalError(f"--out {out}: is an input; name another file")
    indices = find_indices(cubes, params["ids"]) if params["ids"] else _draw_indices(cubes, params)
    preview = build_preview(cubes, indices, wavelengths=visible_nm, size=params["size"])
    if not any(valid.any() for valid in preview.valid):
        raise HsevalError(f"{path}: none of the selected cubes has a valid pixel")
    save = save_film if target.suffix.lower() == ".gif" else save_sheet
    save(preview, target, size=params["size"])
    print(f"{out}: {len(preview.ids)} of {format_count(len(cubes), 'cube')}: {', '.join(preview.ids)}")
    style = preview.style
    print(style.color_note if style.color_label else f"{style.color_note} Shown is {style.composite}.")


def _draw_indices(cubes: CubeSet, params: dict[str, Any]) -> list[int]:
    from hseval.reporting.preview.preview import draw_indices
    from hseval.utils.feature_cache import FeatureCache, get_cache_path
    from hseval.utils.progress import ProgressReporter

    cache_path = None if params["no_cache"] else get_cache_path()
    with FeatureCache(cache_path) as cache, ProgressReporter(hint="; --ids reads only the named cubes") as bar:
        return draw_indices(
            cubes,
            params["cubes"],
            seed=params["seed"],
            cache=cache,
            progress=lambda done, total: bar.update("content", done, total),
        )


def _collect_sources(cubes: CubeSet) -> set[Path]:
    return {source.resolve() for index in range(min(len(cubes), 100)) for source in cubes.sources(index)}


def _parse_numbers(text: str | None) -> list[float]:
    try:
        return [float(number) for number in (text or "").split(",") if number.strip()]
    except ValueError:
        raise HsevalError(f"--wavelengths-shown {text}: expected numbers, such as 500,560,800") from None

"""Opens a set: finds the reader that claims a path, and returns its CubeSet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import ArraySet, CubeSet
from hseval.core.plugin_manager import BUILTIN_DISTRIBUTION, Registration, get_plugins
from hseval.data.axis_order import check_layout
from hseval.data.wavelengths import order_bands, parse_wavelengths
from hseval.utils.errors import HsevalError, format_error
from hseval.utils.input_files import check_regular_file

CubeSetSource = CubeSet | NDArray[Any] | str | os.PathLike[str]


def open_set(
    source: CubeSetSource, *, layout: str | None = None, wavelengths: str | NDArray[Any] | None = None
) -> CubeSet:
    """Open a set of cubes without reading a pixel.

    Args:
        source: a file or folder; an array ``(n, band, y, x)``; or a set, which is returned as it is.
        layout: ``"byx"`` or ``"yxb"``, where the container does not state its axis order.
        wavelengths: nm by band as stored: a file, ``"450:905:16"``, or an array ``(band,)``.

    Raises:
        HsevalError: the source can't be opened; one line names what was found and what was expected.
    """
    if isinstance(source, CubeSet):
        return source
    check_layout(layout)
    centers = parse_wavelengths(wavelengths) if isinstance(wavelengths, str) else wavelengths
    if centers is not None:
        centers = np.asarray(centers, dtype=np.float64).ravel()
    if isinstance(source, np.ndarray):
        return _open_array(source, layout, centers)
    path = Path(source).expanduser()
    if not path.exists():
        raise HsevalError(f"{path}: no such file or folder")
    if not path.is_dir():
        check_regular_file(path)
    return _open_with_reader(_find_reader(path), path, layout, centers)


def _open_array(cubes: NDArray[Any], layout: str | None, wavelengths: NDArray[np.float64] | None) -> CubeSet:
    if cubes.ndim != 4 or cubes.dtype.kind not in "fiub":
        raise HsevalError(f"array of shape {cubes.shape} and type {cubes.dtype}; numbers (n, band, y, x) expected")
    reordered = np.moveaxis(cubes, -1, 1) if layout == "yxb" else cubes
    bands = order_bands(wavelengths, reordered.shape[1], location="array")
    if bands.order is not None:
        reordered = reordered[:, bands.order]
    return ArraySet(reordered, wavelengths=bands.wavelengths if bands.wavelengths_known else None)


def _find_reader(path: Path) -> Registration:
    """Return the reader that claims a path: a third party's before the built-in ones.

    Raises:
        HsevalError: no reader claims it, or those of two third parties do.
    """
    by_name = get_plugins().get_registrations("reader")
    registrations = [by_name[name][0] for name in get_plugins().get_names("reader")]  # one each: no conflict
    claiming = [registration for registration in registrations if _is_claimed(registration, path)]
    foreign = [registration for registration in claiming if registration.distribution != BUILTIN_DISTRIBUTION]
    if len(foreign) > 1:
        listed = " and ".join(f"{registration.name!r} of {registration.distribution}" for registration in foreign)
        raise HsevalError(f"{path}: claimed by the readers {listed}: uninstall one of them")
    if foreign or claiming:
        return (foreign or sorted(claiming, key=lambda registration: registration.name == "folder"))[0]
    from hseval.readers.formats import SUFFIXES

    expected = f"a folder or a name ending in {', '.join(SUFFIXES)}"
    raise HsevalError(f"{path}: no reader for this kind of file; expected {expected}")


def _is_claimed(registration: Registration, path: Path) -> bool:
    try:
        return bool(registration.factory().claims(path))
    except Exception as error:  # noqa: BLE001 - a third party's broken reader is listed, the others still work
        message = f"reader {registration.name!r}: claims: {format_error(error)}"
        get_plugins().record_broken(registration.name, registration.distribution, message)
        return False


def _open_with_reader(
    registration: Registration, path: Path, layout: str | None, wavelengths: NDArray[np.float64] | None
) -> CubeSet:
    reader = f"{path}: reader {registration.name!r} of {registration.distribution}"
    try:
        opened = get_plugins().build("reader", registration.name).open(path, layout=layout, wavelengths=wavelengths)
    except HsevalError:
        raise
    except Exception as error:
        raise HsevalError(f"{reader}: {format_error(error)}") from error
    if not isinstance(opened, CubeSet):
        raise HsevalError(f"{reader} returned no CubeSet")
    return opened

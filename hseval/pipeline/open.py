"""Opening a set: from a path, through whichever reader claims it, to a CubeSet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import ArraySet, CubeSet
from hseval.core.plugin_manager import BUILTIN_DISTRIBUTION, BrokenPlugin, Registration, get_plugins
from hseval.data.axis_order import check_layout
from hseval.data.wavelengths import order_bands, parse_wavelengths
from hseval.utils.errors import HsevalError, format_error

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
        HsevalError: what was found, and what was expected, in one line.
    """
    if isinstance(source, CubeSet):
        return source
    check_layout(layout)
    centres = parse_wavelengths(wavelengths) if isinstance(wavelengths, str) else wavelengths
    if centres is not None:
        centres = np.asarray(centres, dtype=np.float64).ravel()
    if isinstance(source, np.ndarray):
        return _open_array(source, layout, centres)
    path = Path(source).expanduser()
    if not path.exists():
        raise HsevalError(f"{path}: no such file or folder")
    offer = _find_reader(path)
    return _open_with_reader(offer, path, layout, centres)


def _open_array(cubes: NDArray[Any], layout: str | None, wavelengths: NDArray[np.float64] | None) -> CubeSet:
    if cubes.ndim != 4 or cubes.dtype.kind not in "fiub":
        raise HsevalError(f"array of shape {cubes.shape} and type {cubes.dtype}; numbers (n, band, y, x) expected")
    served = np.moveaxis(cubes, -1, 1) if layout == "yxb" else cubes
    bands = order_bands(wavelengths, served.shape[1], location="array")
    if bands.order is not None:
        served = served[:, bands.order]
    return ArraySet(served, wavelengths=bands.wavelengths if bands.wavelengths_known else None)


def _find_reader(path: Path) -> Registration:
    """Return the reader that claims a path: a third party's before the built-in ones.

    Raises:
        HsevalError: nobody claims it, or two third parties do.
    """
    offers = [
        offer for name in get_plugins().get_names("reader") for offer in get_plugins().get_registrations("reader")[name]
    ]
    claiming = [offer for offer in offers if _is_claimed(offer, path)]
    foreign = [offer for offer in claiming if offer.distribution != BUILTIN_DISTRIBUTION]
    if len(foreign) > 1:
        listed = " and ".join(f"{offer.name!r} of {offer.distribution}" for offer in foreign)
        raise HsevalError(f"{path}: claimed by the readers {listed}: uninstall one of them")
    if foreign or claiming:
        return (foreign or sorted(claiming, key=lambda offer: offer.name == "folder"))[0]
    from hseval.readers.formats import SUFFIXES

    raise HsevalError(f"{path}: no reader for this kind of file; a folder, or a name ending in {', '.join(SUFFIXES)}")


def _is_claimed(registration: Registration, path: Path) -> bool:
    try:
        return bool(registration.factory().claims(path))
    except Exception as error:  # noqa: BLE001 - a third party's broken reader is listed, the others still work
        told = BrokenPlugin(
            registration.name, registration.distribution, f"reader {registration.name!r}: claims: {format_error(error)}"
        )
        if told not in get_plugins().broken_plugins:
            get_plugins().broken_plugins.append(told)
        return False


def _open_with_reader(
    registration: Registration, path: Path, layout: str | None, wavelengths: NDArray[np.float64] | None
) -> CubeSet:
    try:
        opened = get_plugins().build("reader", registration.name).open(path, layout=layout, wavelengths=wavelengths)
    except HsevalError:
        raise
    except Exception as error:
        raise HsevalError(
            f"{path}: reader {registration.name!r} of {registration.distribution}: {format_error(error)}"
        ) from error
    if not isinstance(opened, CubeSet):
        raise HsevalError(f"{path}: reader {registration.name!r} of {registration.distribution} returned no CubeSet")
    return opened

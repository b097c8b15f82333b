"""Views: cubes as they look to one who sees spectra alone, or space alone, and what a feature extractor makes of these.

Where the spectral view tells samples from real cubes and the spatial one does not, it is their spectra that differ.
A view wraps an extractor of any distribution, found by name; so this is a part of the core, registered as any plugin.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hseval.core.cubes import FOV
from hseval.core.options import describe_options, option, options_to_dict
from hseval.core.plugin_manager import get_plugins
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.hookspecs import Extractor

    Features = NDArray[Any] | Mapping[str, NDArray[Any]]

NESTED_OPTIONS = {"extractor", "settings"}  # the options by which an extractor is known to wrap another


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """What both views take."""

    extractor: str = option("scattering", "extractor that describes the view: one vector a cube")
    settings: str = option("", "its options as JSON; empty: those given under its own name, or its defaults")


class _View:
    """What both views share: the extractor inside, its device, and all that decides its rows."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    reads_structures: ClassVar[bool] = False
    Options: ClassVar[type[ViewOptions]] = ViewOptions

    def __init__(self, options: ViewOptions | None = None) -> None:
        self.options = options or self.Options()
        inside = get_plugins().find("extractor", self.options.extractor)
        if isinstance(inside, type) and issubclass(inside, _View):
            raise ValueError(f"extractor is {self.options.extractor!r}, expected one that is no view itself")
        self.inner: Extractor = get_plugins().build(
            "extractor", self.options.extractor, _parse_settings(self.options.settings)
        )

    @property
    def device(self) -> str:
        """Where the extractor inside computes."""
        return str(getattr(self.inner, "device", "cpu"))

    @device.setter
    def device(self, device: str) -> None:
        if hasattr(self.inner, "device"):
            self.inner.device = device

    def fingerprint(self) -> str:
        """Return what, besides options, decides the rows: the extractor inside, whatever made it."""
        inside = self.inner
        own = inside.fingerprint() if hasattr(inside, "fingerprint") else ""
        options = options_to_dict(getattr(inside, "options", None))
        origin = get_plugins().get_origin("extractor", inside.name)
        return json.dumps([origin, inside.name, inside.version, options, own], sort_keys=True, default=str)


class SpectralView(_View):
    """Describes cubes whose pixels are shuffled: every spectrum is there, and where it was is lost."""

    name: ClassVar[str] = "spectral-view"
    summary: ClassVar[str] = "another extractor's rows of cubes whose pixels are shuffled: spectra alone"

    def __call__(
        self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
    ) -> Features:
        """Return the rows that the extractor inside gives for shuffled cubes ``(n, band, y, x)``."""
        import numpy as np

        seen = cubes.copy()
        for cube, valid in zip(seen, masks[FOV] & np.isfinite(cubes).all(axis=1), strict=True):
            cube[:, valid] = shuffle_pixels(cube[:, valid])
        return self.inner(seen, wavelengths=wavelengths, masks={FOV: masks[FOV]})


class SpatialView(_View):
    """Describes the mean over bands: the picture is there, and its spectra are lost."""

    name: ClassVar[str] = "spatial-view"
    summary: ClassVar[str] = "another extractor's rows of the mean over bands: space alone"

    @dataclasses.dataclass(frozen=True)
    class Options(ViewOptions):
        """What can be set."""

        repeat: bool = option(False, "show the mean as every band, for extractors that take no single one")

    def __call__(
        self, cubes: NDArray[np.float32], *, wavelengths: NDArray[Any], masks: Mapping[str, NDArray[np.bool_]]
    ) -> Features:
        """Return the rows that the extractor inside gives for the mean over bands of cubes ``(n, band, y, x)``.

        It is shown as a single band at the mean wavelength: copies of one band would say the same many times over, and
        have no correlations but trivial ones.
        """
        import numpy as np

        mean = cubes.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        if getattr(self.options, "repeat", False):
            mean = np.ascontiguousarray(np.broadcast_to(mean, cubes.shape))
        else:
            wavelengths = np.asarray(wavelengths, dtype=np.float64).mean(keepdims=True)
        return self.inner(mean, wavelengths=wavelengths, masks={FOV: masks[FOV]})


def shuffle_pixels(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels ``(band, pixel)`` in an order that their values alone decide, the same in all bands."""
    digest = hashlib.sha256(pixels.astype("<f4").tobytes()).digest()
    order = create_rng(0, "spectral-view", int.from_bytes(digest[:8], "big")).permutation(pixels.shape[1])
    mixed: NDArray[Any] = pixels[:, order]
    return mixed


def resolve_nested_options(
    name: str, settings: Mapping[str, Mapping[str, Any]], *, extractor: str | None = None
) -> Mapping[str, Any]:
    """Return an extractor's options; one that wraps another also gets that one's name and options.

    Args:
        name: the extractor's.
        settings: plugin name -> option -> value.
        extractor: what stands in for every default feature extractor, or None.
    """
    given = dict(settings.get(name, {}))
    declared = {each.name: each.default for each in describe_options(get_plugins().find("extractor", name))}
    if not NESTED_OPTIONS.issubset(declared):
        return given
    if extractor is not None:
        given.setdefault("extractor", extractor)
    inside = given.get("extractor", declared["extractor"])
    if settings.get(inside):
        given.setdefault("settings", json.dumps(settings[inside], sort_keys=True, default=str))
    return given


def _parse_settings(settings: str) -> Mapping[str, Any]:
    try:
        found = json.loads(settings or "{}")
    except ValueError as error:
        raise HsevalError(f"settings is {settings!r}, expected a JSON object of options ({error})") from error
    if not isinstance(found, dict):
        raise HsevalError(f"settings is {settings!r}, expected a JSON object of options")
    return found

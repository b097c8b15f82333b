"""Views: features of cubes reduced to their spectra alone, or to their spatial structure alone.

Where only the spectral view distinguishes samples from real cubes, it is their spectra that differ. A view wraps any
registered feature extractor, found by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from hseval.core.capabilities import compute_fingerprint, get_device, set_device
from hseval.core.cubes import FOV
from hseval.core.options import describe_options, get_option_values, option
from hseval.core.plugin_manager import get_plugins
from hseval.data.field_of_view import find_valid_pixels
from hseval.utils.errors import HsevalError
from hseval.utils.random_streams import create_rng

if TYPE_CHECKING:
    from hseval.core.protocols import Extractor
    from hseval.utils.arrays import Array, BoolArray, Float32Array

    Features = Array | Mapping[str, Array]

NESTED_OPTIONS = {"extractor", "settings"}  # an extractor with these options wraps another one


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """The options of both views."""

    extractor: str = option("scattering", "extractor applied to the view: one vector per cube")
    settings: str = option("", "its options as JSON; empty: those set under its own name, or its defaults")


class _View:
    """Base class of the views: the inner extractor, its device, and its fingerprint."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    reads_structures: ClassVar[bool] = False
    Options: ClassVar[type[ViewOptions]] = ViewOptions

    def __init__(self, options: ViewOptions | None = None) -> None:
        self.options = options or self.Options()
        inner_class = get_plugins().find("extractor", self.options.extractor)
        if isinstance(inner_class, type) and issubclass(inner_class, _View):
            raise ValueError(f"extractor is {self.options.extractor!r}, expected one that is not a view itself")
        settings = _parse_settings(self.options.settings)
        self.inner: Extractor = get_plugins().build("extractor", self.options.extractor, settings)

    @property
    def device(self) -> str:
        """The device of the inner extractor."""
        return str(get_device(self.inner) or "cpu")

    @device.setter
    def device(self, device: str) -> None:
        set_device(self.inner, device)

    def fingerprint(self) -> str:
        """Return what, besides the options, decides the features: identity and fingerprint of the inner extractor."""
        inner = self.inner
        fingerprint, options = compute_fingerprint(inner) or "", get_option_values(inner)
        origin = get_plugins().get_origin("extractor", inner.name)
        return json.dumps([origin, inner.name, inner.version, options, fingerprint], sort_keys=True, default=str)


class SpectralView(_View):
    """Features of cubes with shuffled pixels: every spectrum is preserved, its position is lost."""

    name: ClassVar[str] = "spectral-view"
    summary: ClassVar[str] = "another extractor's features of cubes with shuffled pixels: spectra alone"

    def __call__(self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]) -> Features:
        """Return the inner extractor's features of shuffled cubes ``(n, band, y, x)``."""
        shuffled = cubes.copy()
        for cube, valid in zip(shuffled, find_valid_pixels(cubes, masks[FOV]), strict=True):
            cube[:, valid] = shuffle_pixels(cube[:, valid])
        return self.inner(shuffled, wavelengths=wavelengths, masks={FOV: masks[FOV]})


class SpatialView(_View):
    """Features of the mean over bands: spatial structure is preserved, spectra are lost."""

    name: ClassVar[str] = "spatial-view"
    summary: ClassVar[str] = "another extractor's features of the mean over bands: spatial structure alone"

    @dataclasses.dataclass(frozen=True)
    class Options(ViewOptions):
        """The options."""

        repeat: bool = option(False, "repeat the mean in every band, for extractors that do not accept a single band")

    def __call__(self, cubes: Float32Array, *, wavelengths: Array, masks: Mapping[str, BoolArray]) -> Features:
        """Return the inner extractor's features of the mean over bands of cubes ``(n, band, y, x)``.

        The mean is a single band at the mean wavelength: copies of one band would be redundant, with only trivial
        correlations.
        """
        import numpy as np

        mean = cubes.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
        if isinstance(self.options, SpatialView.Options) and self.options.repeat:
            mean = np.ascontiguousarray(np.broadcast_to(mean, cubes.shape))
        else:
            wavelengths = np.asarray(wavelengths, dtype=np.float64).mean(keepdims=True)
        return self.inner(mean, wavelengths=wavelengths, masks={FOV: masks[FOV]})


def shuffle_pixels(pixels: Array) -> Array:
    """Return pixels ``(band, pixel)`` in a random order, seeded by their values, the same in all bands."""
    digest = hashlib.sha256(pixels.astype("<f4").tobytes()).digest()
    order = create_rng(0, "spectral-view", int.from_bytes(digest[:8], "big")).permutation(pixels.shape[1])
    return pixels[:, order]


def resolve_nested_options(
    name: str, settings: Mapping[str, Mapping[str, Any]], *, extractor: str | None = None
) -> Mapping[str, Any]:
    """Return an extractor's options; for one that wraps another, with the inner one's name and options.

    Args:
        name: name of the extractor.
        settings: plugin name -> option -> value.
        extractor: replaces every default feature extractor, or None.
    """
    options = dict(settings.get(name, {}))
    defaults = {info.name: info.default for info in describe_options(get_plugins().find("extractor", name))}
    if not NESTED_OPTIONS.issubset(defaults):
        return options
    if extractor is not None:
        options.setdefault("extractor", extractor)
    inner = options.get("extractor", defaults["extractor"])
    if settings.get(inner):
        options.setdefault("settings", json.dumps(settings[inner], sort_keys=True, default=str))
    return options


def _parse_settings(settings: str) -> Mapping[str, Any]:
    try:
        options = json.loads(settings or "{}")
    except ValueError as error:
        raise HsevalError(f"settings is {settings!r}, expected a JSON object of options ({error})") from error
    if not isinstance(options, dict):
        raise HsevalError(f"settings is {settings!r}, expected a JSON object of options")
    return options

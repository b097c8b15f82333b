"""The interface of degradations: graded changes of real cubes, whose severity has a unit.

``hseval qualify`` degrades one half of the real cubes, severity by severity, and records how every metric responds. A
degradation changes single cubes (spectral and spatial), the selection of a set (modes dropped, duplicates), or replaces
samples by near-copies of training cubes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from hseval.degradations.inside import replace_valid_pixels, split_valid_pixels

if TYPE_CHECKING:
    from hseval.core.cubes import Cube, CubeSet
    from hseval.utils.arrays import Array, BoolArray, IntArray
    from hseval.utils.random_streams import Rng


DegradationKind = Literal["spectral", "spatial", "set", "copies"]


class Degradation(Protocol):
    """Members common to all kinds.

    Attributes:
        name: as typed on the command line, for example ``shift``.
        summary: one line.
        kind: decides which of the protocols below it fulfills.
        unit: of the severity, for example ``"nm"``, ``"px"``, ``"% of gain"``.
        severities: at least 8, ascending, above 0, in ``unit``: from hardly visible to gross. 0 would change nothing.
        is_set_wide: whether the fault is the sensor's and the same in every cube: ``rng`` then starts from the same
            state for all cubes of a set. Otherwise every cube has a random stream of its own.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    kind: ClassVar[DegradationKind]
    unit: ClassVar[str]
    severities: ClassVar[tuple[float, ...]]
    is_set_wide: ClassVar[bool] = False

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why it can't degrade a set (no wavelengths in nm, no such structure), or None; reads headers alone."""
        return None


class CubeDegradation(Degradation, Protocol):
    """Degrades single cubes (kinds ``spectral`` and ``spatial``)."""

    @abstractmethod
    def degrade(self, cube: Cube, severity: float, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the degraded cube; masks and field of view stay, invalid pixels never leak into valid ones.

        With the same ``rng`` state every severity has the same pattern, only stronger, so that curves are smooth.
        """


class SetDegradation(Degradation, Protocol):
    """Selects cubes of a set, some of them several times (kind ``set``)."""

    kind: ClassVar[DegradationKind] = "set"

    @abstractmethod
    def pick(self, features: Array, severity: float, rng: Rng) -> IntArray:
        """Return ``n`` indices of cubes (0 to n - 1, repeats allowed): the i-th is of the cube that replaces cube i.

        ``features`` ``(n, d)`` separate modes. With the same ``rng`` state the picks of all severities are nested.
        """


class CopyDegradation(Degradation, Protocol):
    """Makes a near-copy of a training cube (kind ``copies``); the severity is the % of samples replaced."""

    kind: ClassVar[DegradationKind] = "copies"

    @abstractmethod
    def copy(self, cube: Cube, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the near-copy of a training cube; its masks move with their structures."""


class PixelDegradation(CubeDegradation):
    """Base of the built-in degradations that change a cube's valid pixels; by default, one fault for all cubes."""

    is_set_wide = True

    def degrade(self, cube: Cube, severity: float, *, wavelengths: Array, rng: Rng) -> Cube:
        """Return the cube with its valid pixels changed."""
        values, valid = split_valid_pixels(cube)
        return replace_valid_pixels(cube, self.change(values, valid, severity, wavelengths, rng), valid)

    @abstractmethod
    def change(self, values: Array, valid: BoolArray, severity: float, wavelengths: Array, rng: Rng) -> Array:
        """Return values ``(band, y, x)``, 0 where not valid, after the change; only the valid pixels count."""

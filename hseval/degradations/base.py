"""What a degradation is: a graded way to spoil real cubes, whose severity has a unit.

``hseval qualify`` spoils one half of the real cubes, severity by severity, and watches how every metric reacts. Three ways:
one cube to one cube (spectral and spatial), a set to a set (modes dropped, duplicates), and samples that are
near-copies of training cubes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hseval.core.cubes import Cube, CubeSet

DegradationKind = Literal["spectral", "spatial", "set", "copies"]


class Degradation(Protocol):
    """What all kinds declare.

    Attributes:
        name: as typed on the command line, for example ``shift``.
        summary: one line.
        kind: which of the three methods below it has.
        unit: of the severity: ``"nm"``, ``"px"``, ``"% of gain"`` ...
        severities: at least 8, ascending, above 0, in ``unit``: from hardly anything to gross. 0 would change nothing.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    kind: ClassVar[DegradationKind]
    unit: ClassVar[str]
    severities: ClassVar[tuple[float, ...]]

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return why it fits no such set (no wavelengths in nm, no such structure ...), or None; from headers."""


class CubeDegradation(Degradation, Protocol):
    """Spoils one cube (kinds ``spectral`` and ``spatial``).

    Attributes:
        is_set_wide: the fault belongs to the sensor and is the same in every cube: ``rng`` starts from the same state for
            all cubes of a set. Otherwise every cube has a stream of its own.
    """

    is_set_wide: ClassVar[bool]

    def degrade(
        self, cube: Cube, severity: float, *, wavelengths: NDArray[np.float64], rng: np.random.Generator
    ) -> Cube:
        """Return the cube spoiled; masks and field of view stay, invalid pixels never leak into valid ones.

        The same ``rng`` state at every severity gives the same pattern, only stronger, so that curves are smooth.
        """


class SetDegradation(Degradation, Protocol):
    """Chooses which cubes of a set are shown, some of them several times (kind ``set``)."""

    def pick(self, features: NDArray[np.float64], severity: float, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` indices of rows (0 to n - 1, repeats allowed); ``features`` ``(n, d)`` tell modes apart.

        Place i names the cube that is shown for cube i. The same ``rng`` state at every severity gives nested picks.
        """


class CopyDegradation(Degradation, Protocol):
    """Makes a near-copy of a training cube (kind ``copies``); the severity is the % of samples that such copies replace."""

    def copy(self, cube: Cube, *, wavelengths: NDArray[np.float64], rng: np.random.Generator) -> Cube:
        """Return the near-copy of a training cube; its masks move along with what they mark."""


class UnrestrictedDegradation:
    """For degradations that any set of cubes can be given to."""

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        """Return None."""
        return None

"""A vessel tree, and Murray's laws of its branchings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from hseval.utils.arrays import FloatArray, IntArray


@dataclasses.dataclass(frozen=True)
class VesselTree:
    """A tree of short straight segments; node 0 is the root, and every other node ends one segment.

    Attributes:
        points: float64 ``(node, 2)``, mm on the retina.
        parents: int ``(node,)``, -1 for the root.
        radii: float64 ``(node,)``, mm: of the segment that ends at the node (root: of the vessel that enters there).
    """

    points: FloatArray
    parents: IntArray
    radii: FloatArray

    def select_segments(self, min_radius: float, max_radius: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return starts ``(segment, 2)``, ends and radii of the segments with ``min_radius <= radius < max_radius``."""
        ends = 1 + np.flatnonzero((self.radii[1:] >= min_radius) & (self.radii[1:] < max_radius))
        return self.points[self.parents[ends]], self.points[ends], self.radii[ends]


def sibling_radius(parent: float, child: float) -> float:
    """Return the other daughter's radius by ``r0^3 = r1^3 + r2^3`` (C. D. Murray, PNAS 12:207, 1926)."""
    return float(np.cbrt(parent**3 - child**3))


def branching_angle(parent: float, child: float, sibling: float) -> float:
    """Return the angle between the parent's course and ``child``'s, in radians.

    ``cos a = (r0^4 + r1^4 - r2^4) / (2 r0^2 r1^2)`` (C. D. Murray, J. Gen. Physiol. 9:835, 1926): a thin daughter
    leaves at almost a right angle, and equal ones at 37.5 degrees each.
    """
    cosine = (parent**4 + child**4 - sibling**4) / (2.0 * parent**2 * child**2)
    return math.acos(min(1.0, max(-1.0, cosine)))

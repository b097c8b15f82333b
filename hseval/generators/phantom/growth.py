"""Growing a vessel tree step by step: headings follow a guide, and no step crosses or crowds the tree's own vessels.

Plain floats and a hash of cells: a tree has some thousand steps, each of which depends on all before.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from hseval.generators.phantom.vessels import VesselTree

STEP_MM = 0.07
CELL_MM = 0.35  # above a step and the widest clearance: the nine cells around a tip contain all that it can meet
ORIGIN_TOLERANCE_MM = 0.35  # distance from its origin within which a branch may be near, but never cross, others
MIN_CROSSING_SINE = 0.6  # sine of the angle below which one vessel runs along another

Guide = Callable[[float, float], tuple[float, float]]  # position -> direction to head for (length: how firmly, 1/mm)
Line = tuple[float, float, float, float]  # from x, y to x, y
Segment = tuple[float, float, float, float, int]  # a line, and the node where it starts


@dataclasses.dataclass
class Tip:
    """The growing end of a vessel: node, position (mm), heading (radians) and radius (mm)."""

    node: int
    x: float
    y: float
    heading: float
    radius: float

    def branch_off(self, angle: float, radius: float) -> Tip:
        """Return a daughter that starts here."""
        return Tip(self.node, self.x, self.y, self.heading + angle, radius)


class TreeBuilder:
    """A tree under construction, with a hash of its segments by the cell in which they end."""

    def __init__(self, root: tuple[float, float], radius: float) -> None:
        self.points = [root]
        self.parents = [-1]
        self.radii = [radius]
        self._cells: dict[tuple[int, int], list[Segment]] = {}

    def build(self) -> VesselTree:
        """Return the tree grown so far."""
        return VesselTree(np.array(self.points), np.array(self.parents), np.array(self.radii))

    def extend(self, tip: Tip, heading: float) -> Tip:
        """Add one step and return the new tip."""
        x, y = compute_step_end(tip, heading)
        node = len(self.points)
        self.points.append((x, y))
        self.parents.append(tip.node)
        self.radii.append(tip.radius)
        self._cells.setdefault(_compute_cell(x, y), []).append((tip.x, tip.y, x, y, tip.node))
        return Tip(node, x, y, heading, tip.radius)

    def find_nearby_segments(self, tip: Tip) -> list[Segment]:
        """Return all segments that a step from ``tip`` can meet."""
        column, row = _compute_cell(tip.x, tip.y)
        cells = self._cells
        segments: list[Segment] = []
        for i in (column - 1, column, column + 1):
            for j in (row - 1, row, row + 1):
                segments_here = cells.get((i, j))
                if segments_here:
                    segments += segments_here
        return segments


def is_step_free(
    nearby: list[Segment], tip: Tip, heading: float, *, origin: tuple[float, float], clearance: float
) -> bool:
    """Return whether a step crosses no segment of its own tree and has no end of one within ``clearance`` ahead."""
    dx, dy = math.cos(heading), math.sin(heading)
    x, y = tip.x + STEP_MM * dx, tip.y + STEP_MM * dy
    for ax, ay, bx, by, start in nearby:
        ex, ey = bx - x, by - y
        square = ex * ex + ey * ey
        blocking = square < clearance * clearance and ex * dx + ey * dy > 0.0
        if blocking and math.hypot(bx - origin[0], by - origin[1]) > ORIGIN_TOLERANCE_MM:
            return False
        connected = start == tip.node or (bx == tip.x and by == tip.y)  # they share an end: a touch is no crossing
        if square < 4.0 * STEP_MM**2 and not connected and has_intersection((tip.x, tip.y, x, y), (ax, ay, bx, by)):
            return False
    return True


def is_step_separated(nearby: list[Segment], tip: Tip, heading: float, *, clearance: float) -> bool:
    """Return whether a step runs along none of another tree's segments; it may cross them steeply."""
    dx, dy = math.cos(heading), math.sin(heading)
    x, y = tip.x + STEP_MM * dx, tip.y + STEP_MM * dy
    for ax, ay, bx, by, _ in nearby:
        close = (bx - x) ** 2 + (by - y) ** 2 < clearance * clearance
        if close and abs((bx - ax) * dy - (by - ay) * dx) < MIN_CROSSING_SINE * STEP_MM:
            return False
    return True


def has_intersection(first: Line, second: Line) -> bool:
    """Return whether two lines have a point in common (touching counts)."""
    ax, ay, bx, by = first
    cx, cy, dx, dy = second
    ux, uy, vx, vy = bx - ax, by - ay, dx - cx, dy - cy
    c_side, d_side = ux * (cy - ay) - uy * (cx - ax), ux * (dy - ay) - uy * (dx - ax)
    a_side, b_side = vx * (ay - cy) - vy * (ax - cx), vx * (by - cy) - vy * (bx - cx)
    return c_side * d_side <= 0.0 and a_side * b_side <= 0.0


def compute_turn(heading: float, target: tuple[float, float]) -> float:
    """Return the turn, in radians per step, from ``heading`` toward ``target``, whose length is the gain in 1/mm."""
    wx, wy = target
    hx, hy = math.cos(heading), math.sin(heading)
    sine, cosine = hx * wy - hy * wx, hx * wx + hy * wy
    return STEP_MM * (sine if cosine > 0.0 else math.copysign(math.hypot(wx, wy), sine))


def compute_step_end(tip: Tip, heading: float) -> tuple[float, float]:
    """Return where a step from ``tip`` ends."""
    return tip.x + STEP_MM * math.cos(heading), tip.y + STEP_MM * math.sin(heading)


def _compute_cell(x: float, y: float) -> tuple[int, int]:
    return math.floor(x / CELL_MM), math.floor(y / CELL_MM)

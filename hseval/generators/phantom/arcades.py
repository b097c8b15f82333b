"""The course of retinal vessels: four trunks leave the disc in arcades, and branches fill the areas between them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

import numpy as np

from hseval.generators.phantom.anatomy import Eye
from hseval.generators.phantom.growth import (
    STEP_MM,
    Guide,
    Tip,
    TreeBuilder,
    compute_step_end,
    compute_turn,
    is_step_free,
    is_step_separated,
)
from hseval.generators.phantom.vessels import branching_angle, sibling_radius

MIN_BRANCH_RADIUS_MM = 0.0135  # of the thinnest branches: the resolution of a fundus camera
SPROUT_STEPS = 4  # first steps of a branch; without room for them there is no branch
MAX_DAUGHTER_RATIO = 0.93  # of its parent's radius: the other would be too thin to matter
TRIAL_NODE = -2  # the node of a tip on trial
TURN_AUTOCORRELATION = 0.8  # correlation of a heading's random turns from step to step
TRIAL_TURNS = (0.0, 0.35, -0.35, 0.7, -0.7, 1.1, -1.1)  # radians, tried in this order until a step is free
MIN_SHARP_TURN_RADIUS_MM = 0.035  # thinner vessels end instead of turning sharply: they would curl up


class ArcadeGrower:
    """Grows one tree of an eye."""

    def __init__(
        self, eye: Eye, rng: np.random.Generator, *, field_radius: float, other_tree: TreeBuilder | None = None
    ) -> None:
        self.eye, self.field_radius, self.other_tree = eye, field_radius, other_tree
        self.uniform_draws = _iterate_uniforms(rng)
        self.pending_branches: list[tuple[float, int, Tip, Guide]] = []

    def grow(self, radius: float, *, width_factor: float, temporal_shift: float) -> TreeBuilder:
        """Return the tree of a central vessel of ``radius`` mm.

        Args:
            radius: of the vessel that enters at the disc's center, mm.
            width_factor: widens the temporal arcades.
            temporal_shift: of the entry, toward temporal, mm.
        """
        root = (temporal_shift + 0.06 * self._draw_signed_uniform(), 0.1 * self._draw_signed_uniform())
        self.tree_builder = TreeBuilder(root, radius)
        upper = radius * (0.5 * (1.0 + 0.08 * self._draw_signed_uniform())) ** (1.0 / 3.0)
        for side, papillary in ((+1, upper), (-1, sibling_radius(radius, upper))):
            heading = math.radians(side * 90.0 + 12.0 * self._draw_signed_uniform())
            self._grow_papillary_vessel(Tip(0, *root, heading, papillary), side, width_factor)
        while self.pending_branches:
            _, _, tip, guide = heapq.heappop(self.pending_branches)
            self._grow_vessel(tip, guide)
        return self.tree_builder

    def _grow_papillary_vessel(self, tip: Tip, side: int, width_factor: float) -> None:
        """Walk a papillary vessel up (+1) or down (-1) and split it into a temporal and a nasal trunk."""
        for _ in range(3 + int(4 * next(self.uniform_draws))):
            tip = self.tree_builder.extend(tip, tip.heading + 0.1 * self._draw_signed_uniform())
        nasal = tip.radius * (0.36 + 0.1 * self._draw_signed_uniform()) ** (1.0 / 3.0)
        temporal = sibling_radius(tip.radius, nasal)
        outwards = side * branching_angle(tip.radius, nasal, temporal)
        inwards = side * branching_angle(tip.radius, temporal, nasal)
        width = width_factor * (2.1 + 0.35 * self._draw_signed_uniform())
        trunks = (
            (temporal, tip.heading - inwards, make_parabolic_guide(side, +1, width)),
            (nasal, tip.heading + outwards, make_parabolic_guide(side, -1, 1.6 + 0.8 * next(self.uniform_draws))),
        )
        for radius, heading, guide in trunks:
            start = self.tree_builder.extend(Tip(tip.node, tip.x, tip.y, heading, radius), heading)
            self._queue_branch(start, guide)

    def _grow_vessel(self, tip: Tip, guide: Guide) -> None:
        """Grow one vessel to its end; its branches are queued, thickest first."""
        origin, random_turn = (tip.x, tip.y), 0.0
        remaining_length, gap = 0.6 + 90.0 * tip.radius, self._draw_branch_gap(tip.radius)
        wobble = 0.05 + 0.0003 / tip.radius
        while remaining_length > 0.0 and self._is_inside(tip):
            random_turn = (
                TURN_AUTOCORRELATION * random_turn
                + (1.0 - TURN_AUTOCORRELATION) * wobble * 3.0 * self._draw_signed_uniform()
            )
            heading = self._choose_heading(
                tip, tip.heading + random_turn + compute_turn(tip.heading, guide(tip.x, tip.y)), origin
            )
            if heading is None:
                return
            tip = self.tree_builder.extend(tip, heading)
            remaining_length, gap = remaining_length - STEP_MM, gap - STEP_MM
            if gap <= 0.0:
                branched = self._try_branch(tip)
                if branched:
                    tip, origin = branched, (tip.x, tip.y)
                gap = self._draw_branch_gap(tip.radius)

    def _try_branch(self, tip: Tip) -> Tip | None:
        """Split off a side branch; None if a daughter would be too thin or has no room."""
        # The branches of wide vessels are mostly thin.
        ratio = 0.3 + 0.6 * next(self.uniform_draws) ** (1.0 + 25.0 * tip.radius)
        side = 1.0 if next(self.uniform_draws) < 0.5 else -1.0
        child = max(ratio * tip.radius, MIN_BRANCH_RADIUS_MM)
        if child > MAX_DAUGHTER_RATIO * tip.radius:
            return None
        child, main = sorted((child, sibling_radius(tip.radius, child)))
        for sign in (side, -side):
            branch_tip = tip.branch_off(sign * branching_angle(tip.radius, child, main), child)
            main_tip = tip.branch_off(-sign * branching_angle(tip.radius, main, child), main)
            # Both or neither: with one daughter the radius would have a step and break Murray's law.
            if self._has_room(branch_tip) and self._has_room(main_tip):
                sprout = self._extend_straight(branch_tip)
                self._queue_branch(sprout, self._make_side_branch_guide(sprout))
                return self._extend_straight(main_tip)
        return None

    def _has_room(self, tip: Tip) -> bool:
        """Return whether a daughter's first steps, straight ahead, are free."""
        origin, clearance = (tip.x, tip.y), self._compute_clearance(tip.radius)
        for _ in range(SPROUT_STEPS):
            if not is_step_free(
                self.tree_builder.find_nearby_segments(tip), tip, tip.heading, origin=origin, clearance=clearance
            ):
                return False
            tip = Tip(TRIAL_NODE, *compute_step_end(tip, tip.heading), tip.heading, tip.radius)
        return True

    def _extend_straight(self, tip: Tip) -> Tip:
        for _ in range(SPROUT_STEPS):
            tip = self.tree_builder.extend(tip, tip.heading)
        return tip

    def _choose_heading(self, tip: Tip, heading: float, origin: tuple[float, float]) -> float | None:
        """Return the nearest heading whose step is free, if possible one along no vessel of the other tree."""
        clearance, fallback = self._compute_clearance(tip.radius), None
        own = self.tree_builder.find_nearby_segments(tip)
        others = self.other_tree.find_nearby_segments(tip) if self.other_tree else []
        turns = TRIAL_TURNS if tip.radius > MIN_SHARP_TURN_RADIUS_MM else TRIAL_TURNS[:3]
        for candidate in (heading + turn for turn in turns):
            if is_step_free(own, tip, candidate, origin=origin, clearance=clearance):
                if is_step_separated(others, tip, candidate, clearance=0.08 + tip.radius):
                    return candidate
                fallback = candidate if fallback is None else fallback
        return fallback

    def _make_side_branch_guide(self, tip: Tip) -> Guide:
        """Return the guide: to the fovea inside the arcades, else away from it (temporal) or from the disc (nasal)."""
        fx, fy = self.eye.fovea
        if tip.x < 0.8:
            return make_radial_guide((0.0, 0.0), 0.25)
        toward = (fx - tip.x) * math.cos(tip.heading) + (fy - tip.y) * math.sin(tip.heading) > 0.0
        return make_radial_guide((fx, fy), -0.5 if toward else 0.3)

    def _is_inside(self, tip: Tip) -> bool:
        (cx, cy), (fx, fy) = self.eye.center, self.eye.fovea
        visible = math.hypot(tip.x - cx, tip.y - cy) < self.field_radius + 0.3
        return visible and math.hypot(tip.x - fx, tip.y - fy) > self.eye.avascular_radius + 8.0 * tip.radius

    def _queue_branch(self, tip: Tip, guide: Guide) -> None:
        heapq.heappush(self.pending_branches, (-tip.radius, tip.node, tip, guide))

    def _draw_branch_gap(self, radius: float) -> float:
        return (0.55 + 7.0 * radius) * (0.5 + next(self.uniform_draws))

    def _compute_clearance(self, radius: float) -> float:
        return 0.18 + 0.5 * radius

    def _draw_signed_uniform(self) -> float:
        return 2.0 * next(self.uniform_draws) - 1.0


def make_parabolic_guide(side: int, direction: int, width: float) -> Guide:
    """Return the guide along ``x = direction y^2 / width``: up (+1) or down (-1), to temporal (+1) or nasal (-1)."""

    def guide(x: float, y: float) -> tuple[float, float]:
        slope = 2.0 * y / width
        length = math.hypot(1.0, slope)
        offset = (direction * x - y * y / width) / length  # distance off the curve, positive on its inner side
        along = (direction * slope * side / length, side / length)
        back = (-direction * offset / length, slope * offset / length)
        return 1.6 * (along[0] + 0.9 * back[0]), 1.6 * (along[1] + 0.9 * back[1])

    return guide


def make_radial_guide(center: tuple[float, float], gain: float) -> Guide:
    """Return the guide away from a point (gain above 0, 1/mm) or toward it (below 0)."""

    def guide(x: float, y: float) -> tuple[float, float]:
        dx, dy = x - center[0], y - center[1]
        scale = gain / (math.hypot(dx, dy) + 1e-9)
        return scale * dx, scale * dy

    return guide


def _iterate_uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Yield uniform numbers one by one, drawn in blocks: a call for each would cost as much as a step."""
    while True:
        yield from rng.random(1024).tolist()

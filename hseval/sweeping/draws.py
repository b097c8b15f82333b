"""Samples of a run: drawn once, from where a cut-off draw was left, and timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hseval.drawing import run as drawing
from hseval.drawing.parts import parts_of
from hseval.plugins import accepted, plugins
from hseval.sweeping.plan import Configuration, Plan
from hseval.sweeping.timing import seconds_per_sample
from hseval.writer import SetWriter


class Drawer:
    """A run's generator, loaded when it is first needed."""

    def __init__(self, run: Configuration, plan: Plan, checkpoint: Path | None) -> None:
        self.run, self.plan, self.checkpoint = run, plan, checkpoint
        self._generator: Any = None
        self._weights: dict[str, str | None] = {}

    def generator(self) -> Any:
        """Return the generator, loaded."""
        if self._generator is None:
            name, options = self.run.generator, {**self.run.options, **self.run.sampling}
            self._weights = drawing.hashes(self.checkpoint)
            built = plugins().build("generator", name, options)
            with plugins().blaming("generator", name):
                drawing.loaded(built, self.checkpoint, self.plan.device, demanded=False)
            self._generator = built
        return self._generator

    def draw(self, out: Path) -> None:
        """Write the run's samples, whole or not at all; what a cut-off draw kept is gone on with."""
        generator, count, seed = self.generator(), self.plan.samples, self.plan.seed
        about = drawing.about(generator, seed)
        if not accepted(generator.sample, start=0):
            with SetWriter(out, **about) as writer:
                for sample in drawing.drawn(generator, count, seed):
                    writer.add(*sample)
            return
        with parts_of(out, drawing.deciding(about, self._weights), about) as parts:
            parts.take_up(force=True)
            if parts.count < count:
                parts.keep(drawing.drawn(generator, count, seed, start=parts.count), _quiet)
            parts.join(count, _quiet)

    def time(self) -> dict[str, Any]:
        """Return how long a sample takes."""
        with plugins().blaming("generator", self.run.generator):
            return seconds_per_sample(self.generator(), self.plan.timing, seed=self.plan.seed)


def _quiet(_: int) -> None:
    """Take no notice."""

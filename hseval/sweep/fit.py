"""Fits and the stages that they share: each done once, whoever needs it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.core.plugin_manager import accepted, plugins
from hseval.pipeline.open import open_set
from hseval.sweep.failures import StepFailed, step
from hseval.sweep.keys import Keyed, Keys
from hseval.sweep.plan import Configuration, Plan
from hseval.sweep.store import DONE, FAILED, FILES, read_record, waited, write_record
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet

Told = Callable[[str], None]


def fitted(run: Configuration, plan: Plan, keys: Keys, told: Told) -> Path | None:
    """Return the folder that a run's fit left, fitted now unless it is there; None where there is nothing to fit.

    Raises:
        StepFailed: it could not be fitted, now or before.
        DiskFull: there is no room.
    """
    if keys.fit is None:
        return None
    home = plan.out / "fits" / keys.fit.key
    if not (home / DONE).exists():
        start: Path | None = None
        for name, keyed in keys.stages.items():
            folder = plan.out / "stages" / keyed.key
            _done(folder, f"stage {name}", _Fit(run, plan, keyed, until=name, start=start), told)
            start = folder / FILES
        _done(home, "fit", _Fit(run, plan, keys.fit, start=start), told)
    return home / FILES


class _Fit:
    """One call of a generator's ``fit``, of all of it or until a stage."""

    def __init__(
        self, run: Configuration, plan: Plan, keyed: Keyed, *, until: str | None = None, start: Path | None = None
    ) -> None:
        self.run, self.plan, self.keyed = run, plan, keyed
        self.shared = {"until": until, "start": start}

    def __call__(self, out: Path) -> None:
        """Fit into the folder ``out``, going on with what a cut-off fit left there if the generator can."""
        name, plan = self.run.generator, self.plan
        generator = plugins().build("generator", name, self.run.options)
        with plugins().blaming("generator", name):
            wanted: Mapping[str, Any] = {"seed": plan.seed, "device": plan.device, "resume": True, **self.shared}
            taken = accepted(generator.fit, **{key: value for key, value in wanted.items() if value is not None})
            lacking = [key for key, value in self.shared.items() if value is not None and key not in taken]
            if lacking:
                raise HsevalError(f"generator {name!r} declares stages, but its fit takes no {lacking[0]!r}")
            if "resume" not in taken and out.exists():
                shutil.rmtree(out)
            out.mkdir(parents=True, exist_ok=True)
            generator.fit(self._data(), out, **taken)

    def _data(self) -> CubeSet:
        data = self.plan.data
        if data.train is None:
            raise HsevalError(f"generator {self.run.generator!r} has to be fitted: [data] needs train")
        return open_set(data.train, layout=data.layout, wavelengths=data.wavelengths)


def _done(home: Path, what: str, fit: _Fit, told: Told) -> None:
    """See that a fit is done, by this process or by another one that is at it."""
    with step(what, home.parent.parent), waited(home):
        if (home / DONE).exists():
            return
        before = read_record(home / FAILED)
        if before is not None:
            raise StepFailed(what, str(before["error"]))
        told(f"{fit.run.label}: {what}")
        began = time.monotonic()
        try:
            with step(what, home):
                fit(home / FILES)
        except StepFailed as error:
            write_record(home / FAILED, {"step": what, "error": str(error), "of": fit.keyed.of})
            raise
        write_record(home / DONE, {"seconds": time.monotonic() - began, "of": fit.keyed.of})

"""Fits and the stages that they share, each done once for all runs that need it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.core.plugin_manager import get_plugins, select_accepted_arguments
from hseval.pipeline.open import open_set
from hseval.sweep.failures import StepError, guard_step
from hseval.sweep.keys import RunKeys, StepKey, check_sets_unchanged
from hseval.sweep.plan import RunConfig, SweepPlan
from hseval.sweep.store import (
    DONE_FILE,
    FAILED_FILE,
    FILES_FOLDER,
    FailureRecord,
    read_record,
    wait_for_lock,
    write_record,
)
from hseval.utils.errors import HsevalError

if TYPE_CHECKING:
    from hseval.core.cubes import CubeSet

MessageCallback = Callable[[str], None]


def ensure_fit(run: RunConfig, plan: SweepPlan, keys: RunKeys, on_message: MessageCallback) -> Path | None:
    """Return the folder of a run's fit, fitted now if necessary; None for generators that are not fitted.

    Raises:
        StepError: the fit failed, now or earlier.
        DiskFullError: the disk is full.
    """
    if keys.fit is None:
        return None
    fit_folder = plan.out / "fits" / keys.fit.digest
    if not (fit_folder / DONE_FILE).exists():
        start: Path | None = None
        for name, stage_key in keys.stages.items():
            folder = plan.out / "stages" / stage_key.digest
            _fit_once(folder, f"stage {name}", _FitCall(run, plan, stage_key, until=name, start=start), on_message)
            start = folder / FILES_FOLDER
        _fit_once(fit_folder, "fit", _FitCall(run, plan, keys.fit, start=start), on_message)
    return fit_folder / FILES_FOLDER


class _FitCall:
    """One call of a generator's ``fit``: the whole fit, or up to and including a stage."""

    def __init__(
        self, run: RunConfig, plan: SweepPlan, step_key: StepKey, *, until: str | None = None, start: Path | None = None
    ) -> None:
        self.run, self.plan, self.step_key = run, plan, step_key
        self.stage_arguments = {"until": until, "start": start}

    def __call__(self, out: Path) -> None:
        """Fit into the folder ``out``, resuming an interrupted fit if the generator supports that."""
        name, plan = self.run.generator, self.plan
        generator = get_plugins().build("generator", name, self.run.options)
        with get_plugins().wrap_errors("generator", name):
            arguments: Mapping[str, Any] = {
                "seed": plan.seed,
                "device": plan.device,
                "resume": True,
                **self.stage_arguments,
            }
            accepted = select_accepted_arguments(
                generator.fit, **{key: value for key, value in arguments.items() if value is not None}
            )
            missing = [key for key, value in self.stage_arguments.items() if value is not None and key not in accepted]
            if missing:
                raise HsevalError(f"generator {name!r} declares stages, but its fit has no parameter {missing[0]!r}")
            if "resume" not in accepted and out.exists():
                shutil.rmtree(out)
            out.mkdir(parents=True, exist_ok=True)
            generator.fit(self._open_training_set(), out, **accepted)

    def _open_training_set(self) -> CubeSet:
        data = self.plan.data
        if data.train is None:
            raise HsevalError(f"generator {self.run.generator!r} has to be fitted: [data] needs train")
        return open_set(data.train, layout=data.layout, wavelengths=data.wavelengths)


def _fit_once(folder: Path, step_name: str, fit_call: _FitCall, on_message: MessageCallback) -> None:
    """Fit unless it is done or known to fail; wait for another process that is fitting the same."""
    with guard_step(step_name, folder.parent.parent), wait_for_lock(folder):
        if (folder / DONE_FILE).exists():
            return
        failure = read_record(folder / FAILED_FILE, FailureRecord)
        if failure is not None:
            raise StepError(step_name, failure["error"])
        on_message(f"{fit_call.run.label}: {step_name}")
        start_time = time.monotonic()
        try:
            with guard_step(step_name, folder):
                fit_call(folder / FILES_FOLDER)
                check_sets_unchanged(fit_call.plan, {"train": fit_call.step_key.inputs["train"]})
        except StepError as error:
            write_record(folder / FAILED_FILE, {"step": step_name, "error": str(error), "of": fit_call.step_key.inputs})
            raise
        write_record(folder / DONE_FILE, {"seconds": time.monotonic() - start_time, "of": fit_call.step_key.inputs})

"""Queue of runs for workers: a study in Optuna's journal, shared by processes on one machine or many.

The journal records which runs wait and which are taken. Whether a run is done is recorded in its folder, so that
nothing is lost with the journal. A trial whose worker was killed stays ``RUNNING`` for ever: it is marked as failed
when no process holds the lock of its run's folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hseval.sweep.store import wait_for_lock
from hseval.utils.errors import HsevalError, format_error

if TYPE_CHECKING:
    from optuna.trial import Trial

JOURNAL_FILE, STUDY_NAME, RUN_ATTRIBUTE = "journal.log", "hseval-sweep", "run"


class RunQueue:
    """The journal in a sweep's folder.

    Raises:
        HsevalError: Optuna is not installed.
    """

    def __init__(self, folder: Path) -> None:
        optuna = _import_optuna()
        path = folder / JOURNAL_FILE
        _truncate_partial_line(path)
        backend = optuna.storages.journal.JournalFileBackend(
            str(path), lock_obj=_JournalLock(folder / f"{JOURNAL_FILE}.locked")
        )
        try:
            storage = optuna.storages.JournalStorage(backend)
            self._study = optuna.create_study(study_name=STUDY_NAME, storage=storage, load_if_exists=True)
        except (ValueError, KeyError, TypeError) as error:
            message = f"{path}: can't be read as Optuna's journal ({format_error(error)}); remove it, no result is lost"
            raise HsevalError(message) from error
        self._trial_states = optuna.trial.TrialState

    def put(self, keys: Iterable[str], *, is_in_use: Callable[[str], bool]) -> None:
        """Add the runs that neither wait nor are being executed; mark the trials of dead workers as failed."""
        running = set()
        for trial in self._study.get_trials(deepcopy=False, states=(self._trial_states.RUNNING,)):
            # A worker that was killed after asking for a trial in vain leaves one without a run.
            key = trial.user_attrs.get(RUN_ATTRIBUTE)
            if key is not None and is_in_use(key):
                running.add(key)
            else:
                self._study.tell(trial.number, state=self._trial_states.FAIL)
        waiting = self._study.get_trials(deepcopy=False, states=(self._trial_states.WAITING,))
        queued = running | {trial.user_attrs[RUN_ATTRIBUTE] for trial in waiting}
        for key in keys:
            if key not in queued:
                self._study.enqueue_trial({}, user_attrs={RUN_ATTRIBUTE: key})

    def take(self) -> tuple[Trial, str] | None:
        """Return the next waiting run, with its trial; None if none waits."""
        while self._study.get_trials(deepcopy=False, states=(self._trial_states.WAITING,)):
            trial = self._study.ask()
            if RUN_ATTRIBUTE in trial.user_attrs:
                return trial, trial.user_attrs[RUN_ATTRIBUTE]
            # Another worker took the last waiting run first: this trial has no run.
            self._study.tell(trial, state=self._trial_states.PRUNED)
        return None

    def mark_done(self, trial: Trial, seconds: float) -> None:
        """Record that a run is done, and how long it took."""
        self._study.tell(trial, seconds, skip_if_finished=True)

    def mark_failed(self, trial: Trial, reason: str) -> None:
        """Record that a run failed."""
        if not self._is_given_up(trial):
            trial.set_user_attr("error", reason)
        self._study.tell(trial, state=self._trial_states.FAIL, skip_if_finished=True)

    def _is_given_up(self, trial: Trial) -> bool:
        """Return whether another sweep has marked a trial as failed, between its start and the lock of its run."""
        trials = self._study.get_trials(deepcopy=False)
        return bool(trials[trial.number].state.is_finished())


def _import_optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise HsevalError("hseval sweep needs optuna: pip install 'hseval[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _truncate_partial_line(path: Path) -> None:
    """Remove a partial last line, left by a kill or a full disk: a line appended to it would be unreadable."""
    with wait_for_lock(path.parent / f"{path.name}.locked"):
        if not path.exists():
            return
        content = path.read_bytes()
        complete_size = content.rfind(b"\n") + 1
        if complete_size < len(content):
            with path.open("r+b") as handle:
                handle.truncate(complete_size)


class _JournalLock:
    """The journal's lock, by Optuna's protocol: held by a process and released when it ends, even by kill -9."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, contextlib.ExitStack()

    def acquire(self) -> bool:
        self._stack.enter_context(wait_for_lock(self._folder, poll_seconds=0.01))
        return True

    def release(self) -> None:
        self._stack.close()

"""Runs dealt to workers: a study in Optuna's journal, which processes on one machine or many share.

The journal says which runs wait and which are taken; that a run is done is told by its folder, so that a journal that
is lost costs nothing. A trial whose worker was killed stays ``RUNNING`` for ever: it is given up when nobody holds the
lock of its run's folder.
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
            told = f"{path}: can't be read as Optuna's journal ({format_error(error)}); remove it: done runs stay done"
            raise HsevalError(told) from error
        self._trial_states = optuna.trial.TrialState

    def put(self, keys: Iterable[str], *, is_in_use: Callable[[str], bool]) -> None:
        """Add the runs that do not wait already and that no living worker is at; give up what dead ones had taken."""
        busy = set()
        for trial in self._study.get_trials(deepcopy=False, states=(self._trial_states.RUNNING,)):
            run = trial.user_attrs.get(
                RUN_ATTRIBUTE
            )  # none: of a worker that was killed as it found that others were faster
            if run is not None and is_in_use(run):
                busy.add(run)
            else:
                self._study.tell(trial.number, state=self._trial_states.FAIL)
        waiting = self._study.get_trials(deepcopy=False, states=(self._trial_states.WAITING,))
        known = busy | {trial.user_attrs[RUN_ATTRIBUTE] for trial in waiting}
        for key in keys:
            if key not in known:
                self._study.enqueue_trial({}, user_attrs={RUN_ATTRIBUTE: key})

    def take(self) -> tuple[Trial, str] | None:
        """Take the next run that waits; None where none does."""
        while self._study.get_trials(deepcopy=False, states=(self._trial_states.WAITING,)):
            trial = self._study.ask()
            if RUN_ATTRIBUTE in trial.user_attrs:
                return trial, trial.user_attrs[RUN_ATTRIBUTE]
            self._study.tell(
                trial, state=self._trial_states.PRUNED
            )  # another worker had been faster: a trial of nothing
        return None

    def mark_done(self, trial: Trial, seconds: float) -> None:
        """Note that a run is done, and how long it took."""
        self._study.tell(trial, seconds)

    def mark_failed(self, trial: Trial, reason: str) -> None:
        """Note that a run failed."""
        trial.set_user_attr("error", reason)
        self._study.tell(trial, state=self._trial_states.FAIL)


def _import_optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise HsevalError("hseval sweep needs optuna: pip install 'hseval[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _truncate_partial_line(path: Path) -> None:
    """Cut off a line that a kill or a full disk left half-written: whatever is appended to it could not be read."""
    with wait_for_lock(path.parent / f"{path.name}.locked"):
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as handle:
                handle.truncate(whole)


class _JournalLock:
    """The journal's lock, as Optuna asks for one: held by a process, and gone with it after kill -9, too."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, contextlib.ExitStack()

    def acquire(self) -> bool:
        self._stack.enter_context(wait_for_lock(self._folder, poll_seconds=0.01))
        return True

    def release(self) -> None:
        self._stack.close()

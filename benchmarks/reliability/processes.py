"""Real processes of hseval in a folder of their own, that can be killed, starved and watched."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import os
import platform
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.helpers.commands import Outcome

TIMEOUT_S = 150.0
ORPHAN_S = 10.0  # that processes may outlive the one that started them
HSEVAL = "from hseval.__main__ import main; main()"


@dataclasses.dataclass
class Run:
    """A running command of a :class:`Workplace`."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path
    start: float

    def wait(self, timeout_s: float = TIMEOUT_S) -> Outcome:
        """Return what the command printed and its exit status; raise TimeoutError, and end it, where it hangs."""
        try:
            status = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            end_session(self.process.pid)
            self.process.wait()
            raise TimeoutError(f"no end after {timeout_s:g} s: {self.err.read_text()[-300:]!r}") from None
        return Outcome(status, self.out.read_text(errors="replace"), self.err.read_text(errors="replace"))

    def send_after(self, seconds: float, number: signal.Signals) -> bool:
        """Send a signal ``seconds`` after the start; return whether the process was still running then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, self.start + seconds - time.monotonic()))
            return False
        self.process.send_signal(number)
        return True


class Workplace:
    """A folder with its own cache, home and temporary folder, in which commands run in sessions of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sessions: list[int] = []
        for name in ("cache", "home", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        self.variables: dict[str, str | None] = {
            "HSEVAL_CACHE": str(folder / "cache"), "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"),
            "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": None, "XDG_CACHE_HOME": None,
        }  # fmt: skip

    def start(
        self,
        command: tuple[str, ...],
        *,
        prelude: str = "",
        variables: Mapping[str, str | None] | None = None,
        prepare: Callable[[], None] | None = None,
        stdout: Path | None = None,
    ) -> Run:
        """Start a command.

        Args:
            command: its arguments.
            prelude: Python code that runs before hseval.
            variables: of the environment, beside the workplace's own; None: unset.
            prepare: called in the new process, just before the command.
            stdout: where its output goes; a file of the workplace by default.
        """
        settings = {**os.environ, **self.variables, **(variables or {})}
        number = len(self.sessions)
        err = self.folder / f"{number}.err"
        out = stdout or self.folder / f"{number}.out"
        code = f"{prelude}\n{HSEVAL}" if prelude else HSEVAL
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in a job in the background; children would inherit it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with out.open("wb") as out_handle, err.open("wb") as err_handle:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *command],
                cwd=self.folder, env={name: value for name, value in settings.items() if value is not None},
                stdin=subprocess.DEVNULL, stdout=out_handle, stderr=err_handle, start_new_session=True,
                preexec_fn=prepare,  # noqa: PLW1509 - this process has no threads
            )  # fmt: skip
        self.sessions.append(process.pid)
        return Run(process, Path(os.devnull) if stdout else out, err, time.monotonic())

    def run(self, command: tuple[str, ...], **options: object) -> Outcome:
        """Run a command to its end; ``options`` as of :meth:`start`."""
        return self.start(command, **options).wait()  # type: ignore[arg-type]

    def end_orphans(self) -> list[str]:
        """Wait until no process of any command is left, end those that stay, and return their command lines."""
        deadline = time.monotonic() + ORPHAN_S
        while (left := _list_processes(self.sessions)) and time.monotonic() < deadline:
            time.sleep(0.1)
        names = [_read_command_line(pid) for pid in left]
        for session in self.sessions:
            end_session(session)
        return [name for name in names if name]


def end_session(session: int) -> None:
    """Kill all processes of a session."""
    for pid in _list_processes([session]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def list_children(pid: int) -> list[int]:
    """Return the processes that a process started, and those that these started: hseval's workers among them."""
    children = [child for child, fields in _iterate_stats() if int(fields[1]) == pid]
    return [*children, *(grandchild for child in children for grandchild in list_children(child))]


def is_worker(pid: int) -> bool:
    """Return whether a process is a worker of multiprocessing (its resource tracker is none)."""
    line = _read_command_line(pid)
    return "multiprocessing.spawn" in line or "multiprocessing.forkserver" in line or "submitit" in line


def _list_processes(sessions: list[int]) -> list[int]:
    return [pid for pid, fields in _iterate_stats() if int(fields[3]) in sessions and fields[0] != "Z"]


def _iterate_stats() -> Iterator[tuple[int, list[str]]]:
    """Yield each process's id, and its state, parent, group, session ..."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_text().rsplit(") ", 1)[1].split()


def _read_command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    return ""


@contextlib.contextmanager
def mount(folder: Path, *, kilobytes: int, read_only: bool = False) -> Iterator[None]:
    """Mount a small file system on a folder, or, with ``read_only``, make what it holds unchangeable; needs root."""
    folder.mkdir(exist_ok=True)
    if read_only:
        subprocess.run(["mount", "--bind", folder, folder], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True, capture_output=True)
    else:
        options = ["-o", f"size={kilobytes}k", "tmpfs"]
        subprocess.run(["mount", "-t", "tmpfs", *options, folder], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True, capture_output=True)


def can_mount(folder: Path) -> bool:
    """Return whether this process may mount file systems."""
    try:
        with mount(folder, kilobytes=64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


SYSCALLS = {"x86_64": (72, 73), "aarch64": (25, 32)}  # fcntl, flock
SET_LOCK_COMMANDS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW, and those of open file descriptions
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000


def refuse_locks(error: int = errno.ENOLCK) -> None:
    """Let every file lock fail in this process and its children, as on a file system without locks (Linux)."""
    fcntl_call, flock_call = SYSCALLS[platform.machine()]
    checks = [(JUMP_IF_EQUAL, 0, 0, command) for command in SET_LOCK_COMMANDS]
    program = [
        (LOAD, 0, 0, 0),  # the number of the system call
        (JUMP_IF_EQUAL, len(checks) + 3, 0, flock_call),
        (JUMP_IF_EQUAL, 0, len(checks) + 1, fcntl_call),
        (LOAD, 0, 0, 24),  # its second argument
        *((code, len(checks) - index, 0, command) for index, (code, _, _, command) in enumerate(checks)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, FAIL | error),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER_MODE, header, 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")

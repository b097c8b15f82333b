"""The entry point: the group, its commands from the plugins, and the one place where errors are caught."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings

import click

from hseval.core.plugin_manager import get_plugins
from hseval.utils.console import escape_output
from hseval.utils.errors import HsevalError
from hseval.utils.text import escape_unprintable
from hseval.utils.version import __version__

INTERRUPTED = "interrupted: no partial file was left behind"


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Docs: README.md and docs/. Options of plugins: hseval plugins NAME.",
)
@click.version_option(__version__, prog_name="hseval")
def cli() -> None:
    """Evaluate generators of hyperspectral images: every score comes with the floor of a perfect generator."""


def main() -> None:
    """Run the command line; exit 2 with one line on unusable input, 130 on Ctrl-C."""
    _disable_hdf5_locking()
    _open_closed_streams()
    # A name in letters that the font of plots lacks is drawn as boxes; there is nothing to do about it.
    warnings.filterwarnings("ignore", message="Glyph .* missing from")
    with escape_output():
        get_plugins().add_commands(cli)
        _raise_on_signals()
        try:
            status = cli.main(prog_name="hseval", standalone_mode=False)
            sys.stdout.flush()  # a full disk shows here, where it can be reported
        except Exception as error:  # noqa: BLE001 - reported here, so that the text of tracebacks is escaped, too
            sys.exit(_report_error(error))
        except KeyboardInterrupt:
            sys.exit(_print_error(INTERRUPTED, 130))
        sys.exit(status if isinstance(status, int) else 0)


def _report_error(error: Exception) -> int:
    """Print an error in one line; return the exit status."""
    message, status = "", 2
    match error:
        case _ if isinstance(error, click.exceptions.Abort) or _is_caused_by_interrupt(error):
            message, status = INTERRUPTED, 130
        case click.exceptions.NoArgsIsHelpError():
            error.show()
        case click.ClickException():
            message = f"{error.format_message()}{_format_help_hint(error)}"
        case HsevalError():
            message = " ".join(str(error).split())
        case MemoryError():
            message = f"out of memory: {error or 'none is left'}; try smaller numbers, --quick or --workers 0"
        case BrokenPipeError():  # the reader of a pipe (head, less) went away: end quietly
            status = 1
        case OSError():
            message = f"{error.filename or 'the output'}: {error.strerror or error}"
        case _:
            traceback.print_exception(error)
            status = 1
    return _print_error(message, status) if message else status


def _is_caused_by_interrupt(error: BaseException | None) -> bool:
    # Libraries that are just being imported turn a KeyboardInterrupt into an ImportError.
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _disable_hdf5_locking() -> None:
    # HDF5's C library prints a stack of its own for every refused file unless locking is disabled.
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")


def _format_help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""


def _open_closed_streams() -> None:
    """Open the null device in place of closed standard streams (``>&-``), so that no file gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


def _raise_on_signals() -> None:
    """Clean up after SIGTERM, by which a queue or a shell's ``timeout`` ends a job, as after Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_keyboard_interrupt)


def _raise_keyboard_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _print_error(message: str, status: int = 2) -> int:
    """Print a message in one line; return the exit status."""
    print(f"hseval: {escape_unprintable(message)}", file=sys.stderr)
    return status

"""The entry point: the group, its commands from the plugins, and the one place where errors are caught."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys

import click

from hseval.core.plugin_manager import get_plugins
from hseval.utils.console import replace_unprintable
from hseval.utils.errors import HsevalError
from hseval.utils.version import __version__


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
    # A queue or a shell's `timeout` ends a job by SIGTERM: clean up as after Ctrl-C.
    signal.signal(signal.SIGTERM, _raise_keyboard_interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to stop
    get_plugins().add_commands(cli)
    try:
        status = cli.main(prog_name="hseval", standalone_mode=False)
        sys.stdout.flush()  # a full disk shows here, where it can be reported
    except click.exceptions.Abort:
        _exit_with_error("interrupted: no partial file was left behind", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _exit_with_error(f"{error.format_message()}{_format_help_hint(error)}", 2)
    except HsevalError as error:
        _exit_with_error(" ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        _exit_with_error("interrupted: no partial file was left behind", 130)
    except MemoryError as error:
        _exit_with_error(f"out of memory: {error or 'none is left'}; try smaller numbers, --quick or --workers 0", 2)
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away: end quietly, the interpreter's own flush at exit included.
        _discard_stdout()
        sys.exit(1)
    except OSError as error:
        _discard_stdout()
        _exit_with_error(f"{error.filename or 'the output'}: {error.strerror or error}", 2)
    sys.exit(status if isinstance(status, int) else 0)


def _disable_hdf5_locking() -> None:
    # HDF5's C library prints a stack of its own for every refused file unless locking is disabled.
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")


def _format_help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f" (see {context.command_path} --help)" if context is not None else ""


def _raise_keyboard_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _discard_stdout() -> None:
    with contextlib.suppress(io.UnsupportedOperation):  # not a file: captured
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_with_error(message: str, status: int) -> None:
    click.echo(f"hseval: {replace_unprintable(message)}", err=True)
    sys.exit(status)

"""The entry point: the group, its commands from the plugins, and the one place where errors are caught."""

from __future__ import annotations

import os
import sys

import click

from hseval import __version__
from hseval.errors import HsevalError
from hseval.plugins import plugins


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Docs, formats and plugins: see the README and docs/ of the project.",
)
@click.version_option(__version__, prog_name="hseval")
def cli() -> None:
    """Score generators of hyperspectral images, with floors that say what a perfect one would get."""


def main() -> None:
    """Run the command line; exit 2 with one line on unusable input, 130 on Ctrl-C."""
    _restrain_native_libraries()
    plugins().add_commands(cli)
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        _stop("interrupted: nothing half-written was left behind", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except HsevalError as error:
        _stop(" ".join(str(error).split()), 2)
    except KeyboardInterrupt:
        _stop("interrupted: nothing half-written was left behind", 130)
    except BrokenPipeError:
        # The reader of a pipe (head, less) went away: end quietly, and keep the interpreter's own flush quiet too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)


def _restrain_native_libraries() -> None:
    # HDF5's C library prints a stack of its own for every refused file unless told not to lock or complain.
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")


def _stop(message: str, status: int) -> None:
    click.echo(f"hseval: {message}", err=True)
    sys.exit(status)

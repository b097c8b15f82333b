"""The program's start: Ctrl-C and SIGTERM end it in one line while everything else is still being imported."""

import contextlib
import os
import signal


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and background jobs have it
            signal.signal(number, _exit_at_once)
    from hseval.cli.main import main as run

    run()


def _exit_at_once(*_: object) -> None:
    # An exception could be swallowed, or turned into an ImportError, by the library that is being imported.
    with contextlib.suppress(OSError):
        os.write(2, b"hseval: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()

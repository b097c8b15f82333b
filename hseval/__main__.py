"""``python -m hseval``: the same as the console script, for torchrun."""

from hseval.cli.main import main

if __name__ == "__main__":
    main()

"""Built-in generators, which need no fitting."""

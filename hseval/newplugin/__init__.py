"""A new plugin as a small distribution: names that are free, and files written whole from templates."""

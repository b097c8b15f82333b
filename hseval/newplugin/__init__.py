"""New plugins as small distributions: checks that their names are free, and files from templates."""

"""Records and interfaces that everything else builds on: cubes, feature tables, reports, options, plugin hooks."""

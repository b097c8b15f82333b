"""Shared records and interfaces: cubes, feature tables, reports, options, plugin hooks."""

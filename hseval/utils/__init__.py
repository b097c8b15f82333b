"""Helpers without a domain: files, locks, hashes, random streams, processes."""

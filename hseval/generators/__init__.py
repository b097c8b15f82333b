"""Generators that need no fitting."""

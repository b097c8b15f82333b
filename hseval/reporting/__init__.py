"""Sentences, figures and HTML of reports."""

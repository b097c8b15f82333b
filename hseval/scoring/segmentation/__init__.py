"""Masks of all sets by one segmenter, cross-fitted on the reference, with its held-out quality."""

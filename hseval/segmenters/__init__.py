"""Segmenters: what finds structures in cubes that come without masks."""

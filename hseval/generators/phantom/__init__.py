"""The retina phantom: synthetic eyes by published anatomy and optics, with masks that are exact by construction."""

from hseval.generators.phantom.plugin import Phantom

__all__ = ["Phantom"]

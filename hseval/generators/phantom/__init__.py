"""The retina phantom: eyes drawn from published anatomy and optics, with masks that are true by construction."""

from hseval.generators.phantom.plugin import Phantom

__all__ = ["Phantom"]

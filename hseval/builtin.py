"""The built-in plugin: hseval's own classes and commands, through the same hooks. Hooks import lazily."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hseval.core.hookspecs import hookimpl

if TYPE_CHECKING:
    import click

    from hseval.core.protocols import Extractor, Generator, Metric, Reader, Renderer, Segmenter


@hookimpl
def hseval_readers() -> Sequence[type[Reader]]:
    """Return the readers of single files and of folders."""
    from hseval.readers.folder import FolderReader
    from hseval.readers.hdf5_hseval import Hdf5Reader

    return [Hdf5Reader, FolderReader]


@hookimpl
def hseval_extractors() -> Sequence[type[Extractor]]:
    """Return the feature extractors."""
    from hseval.data.views import SpatialView, SpectralView
    from hseval.extractors.encoder.extractor import Encoder
    from hseval.extractors.maps import LowresMaps
    from hseval.extractors.noise_level import NoiseLevel
    from hseval.extractors.power import RadialPower
    from hseval.extractors.scattering import Scattering
    from hseval.extractors.spectra import StructureSpectra
    from hseval.extractors.statistics import Statistics
    from hseval.extractors.torchvision import Torchvision
    from hseval.extractors.value_range import ValueRange

    return [
        *(Scattering, Encoder, Torchvision, Statistics),
        *(StructureSpectra, LowresMaps, ValueRange, RadialPower, NoiseLevel, SpectralView, SpatialView),
    ]


@hookimpl
def hseval_metrics() -> Sequence[type[Metric]]:
    """Return the metrics."""
    from hseval.metrics.authenticity import Authenticity
    from hseval.metrics.band_covariance import BandCovariance
    from hseval.metrics.fid import Fid, FidSpatial, FidSpectral
    from hseval.metrics.kid import Kid
    from hseval.metrics.membership import Membership
    from hseval.metrics.ms_ssim import MsSsim
    from hseval.metrics.plausibility import Plausibility
    from hseval.metrics.power_spectrum import PowerSpectrum
    from hseval.metrics.prdc import PrecisionRecall
    from hseval.metrics.spectral_angle import SpectralAngle
    from hseval.metrics.spectral_kl import SpectralKL
    from hseval.metrics.vendi import Vendi

    return [
        *(Kid, PrecisionRecall, Vendi, Membership),
        *(SpectralAngle, BandCovariance, PowerSpectrum, Plausibility, FidSpectral, FidSpatial),
        *(Fid, SpectralKL, MsSsim, Authenticity),
    ]


@hookimpl
def hseval_segmenters() -> Sequence[type[Segmenter]]:
    """Return the segmenters."""
    from hseval.segmenters.pixel_trees import PixelTreeSegmenter
    from hseval.segmenters.unet import UNetSegmenter

    return [PixelTreeSegmenter, UNetSegmenter]


@hookimpl
def hseval_generators() -> Sequence[type[Generator]]:
    """Return the retina phantom."""
    from hseval.generators.phantom import Phantom

    return [Phantom]


@hookimpl
def hseval_renderers() -> Sequence[type[Renderer]]:
    """Return the renderers: terminal, JSON and HTML."""
    from hseval.renderers.html import HtmlRenderer
    from hseval.renderers.json import JsonRenderer
    from hseval.renderers.terminal import TerminalRenderer

    return [TerminalRenderer, JsonRenderer, HtmlRenderer]


@hookimpl
def hseval_commands(cli: click.Group) -> None:
    """Add the commands, one file each; none imports more than click before it runs."""
    from hseval.cli.cache import cache
    from hseval.cli.diff import diff
    from hseval.cli.fit_extractor import fit_extractor
    from hseval.cli.info import info
    from hseval.cli.new_plugin import new_plugin
    from hseval.cli.pareto import pareto
    from hseval.cli.plugins import plugins_command
    from hseval.cli.preview import preview
    from hseval.cli.qualify import qualify
    from hseval.cli.sample import sample
    from hseval.cli.score import score
    from hseval.cli.show import show
    from hseval.cli.sweep import sweep
    from hseval.cli.train import train

    for command in (score, show, qualify, info, preview, train, fit_extractor, sample, plugins_command, cache):
        cli.add_command(command)
    for command in (diff, sweep, pareto, new_plugin):
        cli.add_command(command)

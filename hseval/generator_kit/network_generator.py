"""The base class of generators that are networks on channels: training, checkpoint and sampling."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from hseval.core.cubes import CubeSet
from hseval.core.options import build_options, option, options_to_dict
from hseval.core.protocols import Sample
from hseval.generator_kit.channels import ChannelCodec
from hseval.generator_kit.checkpoint import from_numpy, load_checkpoint, merge_options, save_checkpoint
from hseval.generator_kit.loop import LoopConfig, build_seeded_network, choose_device, train
from hseval.generator_kit.sampling import sample_in_batches
from hseval.training.checkpoint_file import load_weights
from hseval.training.run_folder import (
    check_training_set,
    get_training_set_path,
    hold_run_folder,
    sort_as_recorded,
)
from hseval.utils.errors import HsevalError
from hseval.utils.structured_files import convert_record

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]
# Takes the network, the indices of a step's cubes, and the step's random stream; returns a scalar.
LossFunction = Callable[[Any, list[int], np.random.Generator], "torch.Tensor"]


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """Options of training and sampling that every :class:`NetworkGenerator` has; subclasses add their own."""

    steps: int = option(20_000, "training steps")
    batch: int = option(16, "cubes per step")
    rate: float = option(2e-4, "learning rate")
    average: float = option(0.999, "decay of the averaged weights, which are used for sampling")
    checkpoint_every: int = option(500, "steps between two checkpoints from which training can resume")
    resume: bool = option(False, "resume from the last checkpoint in the folder (with --force, as it is not empty)")
    sample_batch: int = option(8, "cubes drawn at a time; changes speed, and cubes by 1e-5 at most")

    def __post_init__(self) -> None:
        self.check_counts("steps", "batch", "checkpoint_every", "sample_batch")
        self.check_positive("rate")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average:g}, expected 0 or more and less than 1")

    def check_counts(self, *names: str) -> None:
        """Raise ValueError if one of these options is less than 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")

    def check_positive(self, *names: str) -> None:
        """Raise ValueError if one of these options is not more than 0."""
        for name in names:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name):g}, expected more than 0")

    def check_widths(self, name: str, multiple: int) -> None:
        """Raise ValueError unless an option names one or more positive multiples of ``multiple``."""
        widths = getattr(self, name)
        if not widths or any(width < multiple or width % multiple for width in widths):
            typed, example = ",".join(map(str, widths)), f"{4 * multiple},{8 * multiple}"
            raise ValueError(f"{name} is {typed!r}, expected multiples of {multiple} such as {example}")


OptionsT = TypeVar("OptionsT", bound=NetworkOptions)


@dataclasses.dataclass(frozen=True)
class NetworkTraining(Generic[OptionsT]):
    """What the networks of one generator are trained with: cubes of one shape, as ``channels``, into folder ``out``.

    ``mutable_options`` names the options that a resumed training may change.
    """

    options: OptionsT
    data: CubeSet
    channels: ChannelCodec
    out: Path
    seed: int
    device: torch.device
    mutable_options: Collection[str] = ()

    def encode(self, indices: Iterable[int]) -> torch.Tensor:
        """Return the cubes at ``indices`` as channels ``(n, channel, y, x)``, on the device."""
        import torch

        return torch.stack([torch.from_numpy(self.channels.encode(self.data[i])) for i in indices]).to(self.device)

    def train(
        self,
        name: str,
        build: Callable[[], torch.nn.Module],
        compute_loss: LossFunction,
        *,
        steps: int,
        learning_rate: float,
        mutable_options: Collection[str] = (),
    ) -> torch.nn.Module:
        """Build a network, train it and return it with its averaged weights.

        ``name`` names the network's random streams, checkpoint and lines of progress; ``build`` is called with its own
        seed; ``compute_loss`` takes the network, the indices of a step's cubes and a random stream, and returns the
        mean loss. For ``learning_rate`` see :class:`~hseval.generator_kit.LoopConfig`; ``mutable_options``
        names further options that a resumed training may change: the network does not depend on them.

        Raises:
            HsevalError: see :func:`~hseval.generator_kit.train`.
        """
        options, mutable = self.options, {*self.mutable_options, *mutable_options}
        settings = {key: value for key, value in dataclasses.asdict(options).items() if key not in mutable}
        loop = LoopConfig(
            name=name,
            steps=steps,
            batch_size=options.batch,
            learning_rate=learning_rate,
            ema_decay=options.average,
            checkpoint_every=options.checkpoint_every,
            seed=self.seed,
            resume=options.resume,
            run_settings={**settings, **self.channels.as_record()},
        )
        network = build_seeded_network(build, seed=self.seed, name=name).to(self.device)

        def compute_step_loss(step: int) -> torch.Tensor:
            return compute_loss(network, loop.draw_indices(step, len(self.data)), loop.make_rng("noise", step))

        train(network, compute_step_loss, loop, self.out)
        return network


@dataclasses.dataclass(frozen=True)
class _CheckpointRecord:
    options: dict[str, Any]
    channels: dict[str, Any]


class NetworkGenerator(abc.ABC, Generic[OptionsT]):
    """A generator of networks that turn noise into channels; see the plugins ``diffusers`` and ``monai``.

    A subclass sets ``name``, ``version``, ``summary``, ``Options`` (a subclass of :class:`NetworkOptions`),
    ``sampling`` and ``checkpoint_format``, and implements :meth:`build_networks`, :meth:`train_networks` and
    :meth:`generate`.

    Attributes:
        sampling: names of the options that can also be set when sampling.
        checkpoint_format: name and version of the checkpoint, such as ``"hseval-NAME-1"``.
        options, channels, networks, device: set by :meth:`load`.
        wavelengths, units: of the cubes, set by :meth:`load`.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    summary: ClassVar[str]
    Options: ClassVar[type[NetworkOptions]]
    sampling: ClassVar[tuple[str, ...]]
    checkpoint_format: ClassVar[str]

    channels: ChannelCodec
    device: torch.device
    wavelengths: Any
    units: str | None

    def __init__(self, options: OptionsT | None = None) -> None:
        self.options = options or cast("OptionsT", self.Options())
        self.networks: Mapping[str, Any] = {}

    @property
    def side_multiple(self) -> int:
        """What the sides of the channels are padded to a multiple of, for networks that halve them."""
        return 1

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of one cube's noise."""
        return self.channels.shape

    @abc.abstractmethod
    def build_networks(self) -> Mapping[str, torch.nn.Module]:
        """Return the untrained networks by name, from ``options`` and ``channels``.

        Their state is the checkpoint; what else has to be stored is a buffer of a module.
        """

    @abc.abstractmethod
    def train_networks(self, training: NetworkTraining[OptionsT]) -> Mapping[str, torch.nn.Module]:
        """Train by :meth:`NetworkTraining.train` and return the networks, named as in :meth:`build_networks`."""

    @abc.abstractmethod
    def generate(self, noise: Array) -> Array:
        """Return channels ``(n, channel, y, x)`` for noise float32 ``(n, *noise_shape)``, each for its own noise."""

    def fit(self, data: CubeSet, out: Path, *, seed: int = 0, device: str | None = None) -> None:
        """Train on ``data`` and write the checkpoint to the folder ``out``.

        Raises:
            HsevalError: no cubes, cubes of several shapes, another training's checkpoint, a loss that is not finite, no
                training to resume, or one of other cubes; or another process trains into the folder.
        """
        self.device = choose_device(device)
        with hold_run_folder(out):
            if self.options.resume:
                self._check_resumable(out)
                data = sort_as_recorded(out, self.name, data)
            self.channels = ChannelCodec.from_set(data, multiple=self.side_multiple)
            check_training_set(out, self.name, data, resume=self.options.resume)
            self._train_and_save(data, out, seed)
        self.load(out, device=device)

    def _check_resumable(self, out: Path) -> None:
        if not get_training_set_path(out, self.name).exists() and not any(out.glob(f"{self.name}*/*.safetensors")):
            raise HsevalError(f"{out}: holds no training of {self.name} to resume; omit resume=true to start one there")

    def _train_and_save(self, data: CubeSet, out: Path, seed: int) -> None:
        mutable = ("steps", "checkpoint_every", "resume", *self.sampling)
        networks = self.train_networks(
            NetworkTraining(self.options, data, self.channels, out, seed, self.device, mutable)
        )
        tensors = self.channels.as_tensors()
        for prefix, network in networks.items():
            tensors |= {f"{prefix}.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
        record = {
            "version": self.version,
            "options": options_to_dict(self.options),
            "channels": self.channels.as_record(),
        }
        save_checkpoint(out, self.name, tensors, record, format=self.checkpoint_format)

    def load(self, path: Path | None, device: str | None = None) -> None:
        """Read what :meth:`fit` wrote to ``path``, for sampling.

        Raises:
            HsevalError: ``path`` is None, or its checkpoint is missing, damaged or has other options.
        """
        command = f"hseval train {self.name}"
        if path is None:
            raise HsevalError(f"{self.name} has to be trained first: {command} DATA --out RUN, then --checkpoint RUN")
        tensors, record = load_checkpoint(
            path,
            self.name,
            format=self.checkpoint_format,
            required_keys=("options", "channels"),
            hint=f"create one by: {command}",
        )
        types = convert_record(record, _CheckpointRecord, path / f"{self.name}.safetensors")
        trained = build_options(type(self), types.options, owner=f"{path}: {self.name}")
        self.options = merge_options(self.options, trained, sampling_options=self.sampling, path=path)
        self.channels = ChannelCodec.from_record(record["channels"], tensors)
        self.wavelengths, self.units = self.channels.wavelengths, self.channels.units
        self.device = choose_device(device)
        networks = self.build_networks()
        for name, network in networks.items():
            prefix, file = f"{name}.", path / f"{self.name}.safetensors"
            weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            load_weights(network, from_numpy(weights), file, f"create one by: {command}")
        self.networks = {name: network.to(self.device).eval() for name, network in networks.items()}

    def sample(self, n: int, *, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield cubes ``start`` to ``n - 1``; cube i is drawn from the stream (seed, name, i) alone.

        Raises:
            HsevalError: no checkpoint is loaded.
        """
        if not self.networks:
            raise HsevalError(f"{self.name}: no checkpoint is loaded; call load first")
        images = sample_in_batches(
            self._generate_without_gradients,
            start=start,
            stop=n,
            batch_size=self.options.sample_batch,
            seed=seed,
            name=self.name,
            shape=self.noise_shape,
        )
        for index, image in images:
            yield Sample(*self.channels.decode(image), f"{self.name}-{seed}-{index:06d}")

    def _generate_without_gradients(self, noise: Array) -> Array:
        import torch

        with torch.inference_mode():
            return self.generate(noise)

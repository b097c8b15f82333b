"""The generator ``monai``: the interface to hseval, on top of the stages in :mod:`hseval_monai.stages`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hseval.generator_kit import NetworkGenerator, NetworkTraining
from hseval_monai.options import SAMPLING_OPTIONS, MonaiOptions

if TYPE_CHECKING:
    import torch


class Monai(NetworkGenerator[MonaiOptions]):
    """An autoencoder of pixels and masks, and a flow from noise to its latents."""

    name = "monai"
    version = "1.0.0"
    summary = "MONAI's AutoencoderKL and DiffusionModelUNet in its latent space, masks as further channels"
    Options = MonaiOptions
    sampling = SAMPLING_OPTIONS
    checkpoint_format = "hseval-monai-1"

    @property
    def side_multiple(self) -> int:
        """Every level but the first of both networks halves the image."""
        return int(2 ** (len(self.options.ae_channels) + len(self.options.channels) - 2))

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the latents."""
        _, height, width = self.channels.shape
        reduction = 2 ** (len(self.options.ae_channels) - 1)
        return self.options.latent_channels, height // reduction, width // reduction

    def build_networks(self) -> Mapping[str, torch.nn.Module]:
        """Return the autoencoder, the scale of its latents and the U-Net."""
        from hseval_monai.networks import LatentScale, build_autoencoder, build_unet

        return {
            "autoencoder": build_autoencoder(self.channels.n_channels, self.options),
            "latents": LatentScale.of_channels(self.options.latent_channels),
            "unet": build_unet(self.options),
        }

    def train_networks(self, training: NetworkTraining[MonaiOptions]) -> Mapping[str, torch.nn.Module]:
        """Train the autoencoder, then the U-Net on its latents."""
        from hseval_monai import stages

        autoencoder = stages.train_autoencoder(training)
        latents, scale = stages.encode_latents(training, autoencoder)
        return {"autoencoder": autoencoder, "latents": scale, "unet": stages.train_unet(training, latents)}

    def generate(self, noise: Any) -> Any:
        """Return images: the flow's latents, decoded."""
        from hseval_monai.networks import RectifiedFlow

        normal = RectifiedFlow().sample(self.networks["unet"], noise, steps=self.options.flow_steps, device=self.device)
        return self.networks["autoencoder"].decode(self.networks["latents"](normal)).cpu().numpy()

"""The bundled generator (VQ-GAN and latent diffusion). Nothing is registered yet: see the CHANGELOG."""

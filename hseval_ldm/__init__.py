"""The bundled generator ``ldm``, a VQ-GAN with latent diffusion, and its command ``hseval train-ldm``."""

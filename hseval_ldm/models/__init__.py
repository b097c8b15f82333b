"""Networks and their losses: autoencoder with codebook, discriminator, U-Net."""

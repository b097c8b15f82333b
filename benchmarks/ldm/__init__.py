"""The bundled generator: reconstructions, sampling steps, speed, and the demo with its targets."""

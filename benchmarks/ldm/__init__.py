"""The bundled generator: reconstructions, steps, speed, and the demo with its bars."""

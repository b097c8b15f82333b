"""Properties of sets independent of their file: axes, wavelengths, field of view, content, hseval's own format."""

"""What belongs to a set of cubes whatever file it came from: axes, wavelengths, field of view, content, house format."""

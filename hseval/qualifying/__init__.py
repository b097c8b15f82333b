"""What a score sees: real cubes spoiled by degrees, and how every metric reacts (``hseval qualify``)."""

"""How every metric reacts to real cubes that are degraded by increasing severities (``hseval qualify``)."""

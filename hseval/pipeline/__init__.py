"""From paths to features: opens sets, extracts features in one streaming pass, and compares pairs of cubes."""

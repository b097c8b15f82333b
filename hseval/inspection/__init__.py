"""What is in a set of cubes, and what is suspicious in it (``hseval info``)."""

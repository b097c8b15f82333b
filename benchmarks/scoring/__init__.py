"""Speed and memory of scores and their numerics, compared with other packages."""

"""Reports of several generators compared: shared protocol, pairwise tests, leaderboard."""

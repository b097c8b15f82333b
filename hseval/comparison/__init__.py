"""Comparison of the reports of several generators: shared protocol, pairwise tests, leaderboard."""

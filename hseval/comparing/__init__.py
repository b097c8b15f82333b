"""Reports compared: which protocol they share, who is told from whom, and who leads."""

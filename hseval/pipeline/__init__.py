"""From paths to features: sets are opened, described in one streaming pass, and paired."""

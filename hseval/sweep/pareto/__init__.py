"""Quality against sampling speed: the front, and its plot."""

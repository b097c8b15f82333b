"""What a report says and shows beside its numbers."""

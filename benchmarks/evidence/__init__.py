"""What the docs claim of intervals, verdicts, copies, segmenters and generators."""

"""Statistics: splits, intervals, paired comparisons and multiple testing, on arrays and callables."""

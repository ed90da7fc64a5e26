"""What a network gets right: scores, comparisons, error analysis, and their pictures."""

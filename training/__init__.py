"""A run: its options, what it is built from, its step, its state and its log."""

"""Everything the training loop needs that is neither a network, a method nor a data set."""

"""Weights on the disk: files of several formats, pretrained networks, checkpoints of runs."""

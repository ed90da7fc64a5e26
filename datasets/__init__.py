"""Data: folders and archives of images, decoded, augmented and batched."""

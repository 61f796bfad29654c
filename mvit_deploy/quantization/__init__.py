"""Quantization, found once on the PyTorch module for every target: algebra, ranges, rounding, sensitivity, plans."""

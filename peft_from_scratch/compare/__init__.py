"""Measured comparisons of methods with full fine-tuning."""

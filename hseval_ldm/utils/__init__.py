"""Distributed training and precision."""

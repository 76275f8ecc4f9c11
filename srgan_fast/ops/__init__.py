"""Fused operators for training: each with a reference in plain torch, shapes, gradients."""

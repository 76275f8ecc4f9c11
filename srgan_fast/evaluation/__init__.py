"""Evaluates a model on test images, by the protocol of published tables."""

from srgan_fast.evaluation.evaluate import Evaluation, ImageScores, evaluate

__all__ = ["Evaluation", "ImageScores", "evaluate"]

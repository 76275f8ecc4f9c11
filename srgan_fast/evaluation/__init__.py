"""The task of measuring a model on test images, by the protocol that the field's tables use."""

from srgan_fast.evaluation.evaluate import Evaluation, ImageScores, evaluate

__all__ = ["Evaluation", "ImageScores", "evaluate"]

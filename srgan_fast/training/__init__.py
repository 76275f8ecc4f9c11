"""The task of training: a pixel loss first (SRResNet), then the adversarial game (SRGAN)."""

from srgan_fast.training.config import TrainConfig, read_config
from srgan_fast.training.trainer import Observer, Outcome, Trainer

__all__ = ["Observer", "Outcome", "TrainConfig", "Trainer", "read_config"]

"""The task of training: a pixel loss first (SRResNet), then the adversarial game (SRGAN).

The steps themselves (`srgan_fast.training.step`) need torch alone; what is named here is imported on first use.
"""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.training.config import TrainConfig, read_config
    from srgan_fast.training.trainer import Observer, Outcome, Trainer

__all__ = ["Observer", "Outcome", "TrainConfig", "Trainer", "read_config"]

__getattr__ = on_first_use(
    __name__,
    {
        "TrainConfig": "srgan_fast.training.config",
        "read_config": "srgan_fast.training.config",
        "Observer": "srgan_fast.training.trainer",
        "Outcome": "srgan_fast.training.trainer",
        "Trainer": "srgan_fast.training.trainer",
    },
)

"""Training: first with a pixel loss (SRResNet), then adversarially (SRGAN).

The names of this package are imported on first use: the steps themselves (`srgan_fast.training.step`) need only torch.
"""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.training.config import TrainConfig, read_config
    from srgan_fast.training.progress import Observer, SilentObserver
    from srgan_fast.training.trainer import Outcome, Trainer

__all__ = ["Observer", "Outcome", "SilentObserver", "TrainConfig", "Trainer", "read_config"]

__getattr__ = on_first_use(
    __name__,
    {
        "TrainConfig": "srgan_fast.training.config",
        "read_config": "srgan_fast.training.config",
        "Observer": "srgan_fast.training.progress",
        "SilentObserver": "srgan_fast.training.progress",
        "Outcome": "srgan_fast.training.trainer",
        "Trainer": "srgan_fast.training.trainer",
    },
)

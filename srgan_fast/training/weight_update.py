"""The second half of a training step: finite figures, clipped gradients, optimisers.

On a GPU the device decides whether the weights change, so that it has work while the host waits for the losses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import record_function

from srgan_fast.training.figures import Figures


def update_weights(
    figures: Figures,
    optimisers: dict[str, Optimizer],
    networks: dict[str, nn.Module],
    clip: float | None,
    after_update: Callable[[], None] | None,
) -> dict[str, float]:
    """Checks that all figures are finite, clips the gradients, and updates the weights.

    Raises:
        NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
    """
    device_decides = figures.values.is_cuda and all(
        getattr(o, "_step_supports_amp_scaling", False) for o in optimisers.values()
    )
    values = {} if device_decides else figures.read()
    # The device decides whether the weights change, so that it has work while the host waits for the values.
    bad = figures.values.isfinite().all().logical_not().float() if device_decides else None
    for name, optimiser in optimisers.items():
        with record_function("optimisers"), _skipped_if(optimiser, bad):
            if clip is not None:
                gradients = [p for p in networks[name].parameters() if p.grad is not None]
                nn.utils.clip_grads_with_norm_(gradients, clip, figures.norms[name])
            optimiser.step()
    if after_update is not None:
        after_update()
    return figures.read() if device_decides else values


@contextmanager
def _skipped_if(optimiser: Optimizer, bad: Tensor | None) -> Iterator[None]:
    """Context in which a fused optimiser changes nothing if `bad`, a value on the device, is 1.

    torch's GradScaler uses the same mechanism with optimisers that declare `_step_supports_amp_scaling`.
    """
    if bad is None:
        yield
        return
    optimiser.found_inf = bad  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del optimiser.found_inf  # type: ignore[attr-defined]

"""The section `run`: output, device and execution."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from srgan_fast.training.config.fields import ConfigSection, Decay, Int, Positive, Seed, Weight

_MOST_THREADS = 1024


class RunSection(ConfigSection):
    """Output, device and execution of the run.

    Attributes:
        output: folder of checkpoints, models and curves.
        seed: random seed of weights and crops.
        device: `cpu`, `cuda`, or `auto` for CUDA if there is a CUDA device.
        precision: `fp32`, or `bf16` to run the networks under autocast; weights, statistics and losses stay in fp32.
        kernels: `fused` for this package's kernels, `reference` for PyTorch's, `auto` for this package's where they are
            available and faster. If they are not available, `auto` reports why.
        graphs: whether steps are recorded as a CUDA graph and replayed, on a CUDA device in a single process.
        threads: number of CPU threads; 0 for all.
        accumulate: number of parts that a batch is divided into; BatchNorm statistics are those of one part.
        clip: maximum norm of a network's gradient; 0 for no limit.
        ema: decay of the averaged generator, which is validated and saved; 0 for no averaging.
        log_every: steps between points of the curves.
        validate_every: steps between validations.
        save_every: steps between checkpoints.
        keep: number of checkpoints to keep.
        metadata: additional metadata of model files, e.g. data and licence.
    """

    output: Path = Path("runs/srgan")
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    kernels: Literal["auto", "fused", "reference"] = "auto"
    graphs: bool = True
    threads: Annotated[Int, Field(ge=0, le=_MOST_THREADS)] = 0
    accumulate: Positive = 1
    clip: Weight = 0.0
    ema: Decay = 0.999
    log_every: Positive = 50
    validate_every: Positive = 1000
    save_every: Positive = 1000
    keep: Positive = 3
    metadata: dict[str, str] = Field(default_factory=dict)

"""Configuration of a run: a TOML file, checked completely before the run starts.

One module for each section (`generator`, `data`, `stages`, `run`); `whole` combines them, `reading` reads the file.
"""

from srgan_fast.training.config.data import DataSection, DegradationSection, RoundSection, SecondOrderSection
from srgan_fast.training.config.generator import GeneratorSection
from srgan_fast.training.config.reading import read_config
from srgan_fast.training.config.run import RunSection
from srgan_fast.training.config.stages import (
    STAGES,
    Betas,
    FeaturesSection,
    GanSection,
    PretrainSection,
    ScheduleSection,
    StageName,
    StageSection,
)
from srgan_fast.training.config.whole import TrainConfig

__all__ = [
    "STAGES",
    "Betas",
    "DataSection",
    "DegradationSection",
    "FeaturesSection",
    "GanSection",
    "GeneratorSection",
    "PretrainSection",
    "RoundSection",
    "RunSection",
    "ScheduleSection",
    "SecondOrderSection",
    "StageName",
    "StageSection",
    "TrainConfig",
    "read_config",
]

"""The page of a report, whichever benchmark made it."""

from typing import TYPE_CHECKING

from srgan_fast.bench.html.inference_page import inference_page
from srgan_fast.bench.report import InferenceReport

if TYPE_CHECKING:
    from srgan_fast.bench.training import TrainingReport


def report_page(report: "InferenceReport | TrainingReport") -> str:
    """The report as one HTML file."""
    if isinstance(report, InferenceReport):
        return inference_page(report)
    from srgan_fast.bench.html.training_page import training_page  # noqa: PLC0415 (torch)

    return training_page(report)

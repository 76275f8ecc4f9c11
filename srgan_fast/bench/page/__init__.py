"""Pages of each kind of report, as documents of `srgan_fast.pages`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srgan_fast.bench.report import ComparableReport
    from srgan_fast.pages.document import Page


def page_of(report: "ComparableReport") -> "Page":
    """The page of an inference or training report."""
    from srgan_fast.bench.page.inference import inference_page  # noqa: PLC0415 (start-up time)
    from srgan_fast.bench.page.training import training_page  # noqa: PLC0415
    from srgan_fast.bench.report import InferenceReport  # noqa: PLC0415

    return inference_page(report) if isinstance(report, InferenceReport) else training_page(report)

"""What a report shows, on a console and as one HTML file that needs nothing else: no script, no font, no network.

`document` holds tables, charts and facts as plain data, and `html` writes them; both need the standard library only, so
that a machine with little installed makes a page too. `charts` draws with matplotlib. The other modules say what is
shown of each kind of report.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from srgan_fast.bench.page.document import Page
    from srgan_fast.bench.report import ComparableReport


def page_of(report: "ComparableReport") -> "Page":
    """What a report of inference or training shows."""
    from srgan_fast.bench.page.inference import inference_page  # noqa: PLC0415 (pydantic, which a GPU's page needs not)
    from srgan_fast.bench.page.training import training_page  # noqa: PLC0415
    from srgan_fast.bench.report import InferenceReport  # noqa: PLC0415

    return inference_page(report) if isinstance(report, InferenceReport) else training_page(report)

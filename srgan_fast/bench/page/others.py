"""Pages of export reports and comparisons."""

from srgan_fast.bench.compare import Comparison
from srgan_fast.bench.report import ExportBenchReport, ExportRow
from srgan_fast.pages.document import NAME, Column, Page, Section, Table, texts


def export_page(report: ExportBenchReport) -> Page:
    """A single table."""

    def types(row: ExportRow) -> str:
        return ", ".join(f"{count} {name}" for name, count in sorted(row.convolutions.items()))

    figures = {"export s": "make_s", "build s": "build_s", "MB": "size_mb", "PSNR dB": "psnr_db", "ORT ms": "median_ms"}
    columns = [NAME, *(Column(title, field, ".1f") for title, field in figures.items())]
    table = Table([*columns, Column("convolutions", types, text=True)], report.rows)
    section = Section(f"ONNX Runtime at {report.size}, {report.threads} threads", [table])
    return Page(f"{report.model} exported on {report.environment.cpu}", warnings=report.warnings, sections=[section])


def comparison_page(found: Comparison) -> Page:
    """Differences of the environments, and the rows of each case."""
    columns = [
        NAME,
        Column("before ms", "before_ms"),
        Column("after ms", "after_ms"),
        Column("ratio", "ratio", ".3f"),
        Column("interval", lambda row: None if row.low is None else f"{row.low:.3f} .. {row.high:.3f}"),
        Column("verdict", "verdict", text=True),
    ]
    cases = [
        Section(case, [Table(columns, [row for row in found.rows if row.case == case])])
        for case in dict.fromkeys(row.case for row in found.rows)
    ]
    columns = texts({"": "what", "before": "before", "after": "after"})
    unlike = Section("not alike", [Table(columns, found.differences)])
    return Page("", warnings=found.warnings, sections=[unlike, *cases])

"""`srgan-fast doctor`."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import typer
from rich.text import Text

from srgan_fast.cli.console import output, say
from srgan_fast.cli.reports import JsonFile, make_report
from srgan_fast.errors import BackendError

if TYPE_CHECKING:
    from srgan_fast.doctor import DoctorReport
    from srgan_fast.doctor.report import Processor, SelfTest

_STYLES = {"ok": "green", "passed": "green", "broken": "bold red", "failed": "bold red"}
_EXIT_BROKEN = 1


def doctor(json_file: JsonFile = None) -> None:
    """Show what is installed and selected on this machine, and run the self-tests, in seconds.

    The exit code is 1 if something that is installed does not work. Optional parts that are not installed are no error.
    """
    try:
        from srgan_fast.doctor import examine  # noqa: PLC0415 (start-up time)
    except ImportError as error:  # NumPy and other required packages
        raise BackendError(f"a required package cannot be imported ({error}); reinstall srgan_fast") from error

    report = make_report(examine, _present, json_file)
    for problem in report.problems:
        say(problem, label="problem")
    if not report.ok:
        raise typer.Exit(_EXIT_BROKEN)


def _present(report: "DoctorReport") -> None:
    _line(f"srgan-fast {report.version}, Python {report.python}, {report.platform}")
    _present_processor(report.processor)
    _section("packages", [(p.state, f"{p.name} {p.version or ''}".strip(), p.detail) for p in report.packages])
    _section("native modules", [(m.state, m.name, _joined(m.purpose, m.detail)) for m in report.modules])
    backends = [(b.state, b.name, _joined(", ".join(b.precisions), b.detail)) for b in report.backends]
    _section("backends", backends)
    choices = [("", f"{op.device} {op.dtype}", _joined(op.implementation, op.reason)) for op in report.ops]
    _section(f"operators for training: {report.ops[0].op}" if report.ops else "", choices)
    tests = report.tests
    _section("tests: error (bound)", [(t.state, t.name, _error(t)) for t in tests if t.direction is None])
    _present_ops([test for test in tests if test.direction is not None])
    counts = Counter(test.state for test in tests)
    works = "everything that is installed works" if report.ok else f"problems: {len(report.problems)}"
    _line(f"\n{works}; tests: " + ", ".join(f"{counts[state]} {state}" for state in ("passed", "failed", "skipped")))


def _present_processor(processor: "Processor") -> None:
    _line(f"{processor.model}, {processor.cpus} CPUs: {' '.join(processor.flags)}")
    if processor.isas:
        asked = f" (SRGAN_FAST_ISA={processor.isa_asked})" if processor.isa_asked else ""
        _line(f"instruction sets: {' '.join(processor.isas)}; in use: {processor.isa or 'none'}{asked}")


def _present_ops(tests: "list[SelfTest]") -> None:
    """A line per operator, dtype and device, with all directions."""
    rows = []
    for (name, dtype, device), group in groupby(tests, lambda test: (test.name, test.dtype, test.device)):
        parts = list(group)
        state = "failed" if any(part.state == "failed" for part in parts) else "passed"
        bound = next((f"({part.bound:.0e})" for part in parts if part.bound is not None), "")
        cells = [f"{part.direction} {_number(part.error)}" for part in parts]
        rows.append((state, f"{name}, {dtype}, {device}", "  ".join([*cells, bound])))
    _section("tests of the operators for training: error (bound)", rows)


def _section(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """Prints rows of state, name and text in columns."""
    if not rows:
        return
    _line(f"\n{title}")
    states, names = (max(len(row[i]) for row in rows) for i in (0, 1))
    for state, name, text in rows:
        word = (f"  {state:{states}}", _STYLES.get(state, "dim"))
        output.print(Text.assemble(word, f"  {name:{names}}  {text}".rstrip()), soft_wrap=True)


def _line(text: str) -> None:
    output.print(text, soft_wrap=True, highlight=False)


def _error(test: "SelfTest") -> str:
    if test.error is None or test.bound is None:
        return test.detail
    return f"{_number(test.error)} ({test.bound:.0e}) of {test.measure}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def _joined(*texts: str) -> str:
    return ": ".join(text for text in texts if text)

"""Assembles the subcommands, and turns errors into one line and an exit code."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from srgan_fast import __version__
from srgan_fast.cli import bench, convert, doctor, evaluate, export, models, train, upscale, upscale_report
from srgan_fast.cli.console import EXIT_INTERRUPTED, say
from srgan_fast.cli.reports import ReportCommand
from srgan_fast.errors import SrganFastError

EXIT_FAILURE = 1
# Click's UsageError: depending on typer's version, click is vendored without a public name or a separate package.
_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]


class _Group(TyperGroup):
    """Prints this package's errors as one line; `--debug` shows the traceback."""

    def invoke(self, ctx: Any) -> Any:
        given = [*ctx._protected_args, *ctx.args]  # emptied by invoke()
        try:
            result = super().invoke(ctx)
            if sys.stdout:
                sys.stdout.flush()  # reports write errors here rather than when Python exits
            return result
        except KeyboardInterrupt:
            say("interrupted; no partial files were left")
            ctx.exit(EXIT_INTERRUPTED)
        except _USAGE_ERROR as error:
            # With --json, errors are reported as JSON as well.
            if given[0] == "upscale" and "--json" in given:
                upscale_report.print_json(upscale_report.as_json([], error=error.format_message()))
            raise
        except BrokenPipeError:
            ctx.exit(EXIT_FAILURE)  # the reader of our output has exited; no message is needed
        except (SrganFastError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            say(str(error), label="error")
            ctx.exit(EXIT_FAILURE)
        finally:
            _drop_what_cannot_be_written()


def _drop_what_cannot_be_written() -> None:
    """Python flushes standard output again at exit, which must not report the error a second time."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        sys.stdout = None


app = typer.Typer(
    name="srgan-fast",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="SRGAN super-resolution that is fast enough for everyday use.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"srgan-fast {__version__}", flush=True)  # noqa: T201 (plain text for scripts)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


app.command("upscale", no_args_is_help=True)(upscale.upscale)
app.command("evaluate", no_args_is_help=True)(evaluate.evaluate)
app.command("train", no_args_is_help=True)(train.train)
app.command("convert", no_args_is_help=True)(convert.convert)
app.command("doctor", cls=ReportCommand)(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(export.app, name="export")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Runs the command line and exits."""
    app()

"""`srgan-fast` starts at once, tells all its options, and turns every error into one line and an exit code."""

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

import srgan_fast
from srgan_fast.cli import convert
from srgan_fast.cli.app import app
from srgan_fast.errors import BackendError, DataError, ImageError, ModelError, TrainingError, UsageError
from srgan_fast.models import shipped_models

COMMANDS = ["upscale", "evaluate", "train", "convert", "models", "doctor", "export"]


def _plain(text: str) -> str:
    """Without colours, boxes and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def test_version(run: Any) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"srgan-fast {srgan_fast.__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_the_subcommands(run: Any, option: str) -> None:
    result = run(option)
    assert result.exit_code == 0
    for command in COMMANDS:
        assert re.search(rf"^\W*{command} ", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["upscale", "evaluate", "train", "convert", "models", "doctor", "export onnx"])
def test_the_help_of_a_subcommand_tells_every_option_in_full(run: Any, command: str) -> None:
    found: Any = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    result = run(*command.split(), "--help")
    assert result.exit_code == 0
    shown = _plain(result.stdout)
    for parameter in found.params:
        # What lies in square brackets would be taken for markup and vanish.
        assert parameter.help in shown
        if isinstance(parameter.show_default, str):
            assert f"[default: ({parameter.show_default})]" in shown
        for option in (*parameter.opts, *parameter.secondary_opts):
            assert not option.startswith("-") or option in shown


def test_help_tells_what_happens_by_default(run: Any) -> None:
    shown = _plain(run("upscale", "-h").stdout)
    for default in (
        "the input's",
        "the model's",
        "_x and the factor",
        "(all)",
        "chosen to bound memory",
        "srgan-x4",
    ):
        assert default in shown
    assert "bicubic downscaling" in _plain(run("evaluate", "-h").stdout)


@pytest.mark.parametrize("arguments", [[], ["upscale"], ["evaluate"], ["convert"], ["export"], ["export", "onnx"]])
def test_nothing_given_shows_the_help(run: Any, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: srgan-fast" in result.output
    assert "--help" in result.output


def test_an_unknown_subcommand_is_a_usage_error(run: Any) -> None:
    result = run("enlarge")
    assert result.exit_code == 2
    assert "No such command 'enlarge'" in _plain(result.stderr)


HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "openvino", "numpy", "pyvips", "safetensors"}
LOADED = f"""
import sys
from srgan_fast.cli import main
try:
    main()
finally:
    print(sorted({HEAVY} & {{name.split(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["upscale", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_nothing_heavy(folder: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_a_failure_of_a_process_is_one_line_and_with_debug_a_traceback(run_process: Any) -> None:
    plain = run_process("models", "nope")
    assert (plain.returncode, plain.stdout) == (1, b"")
    text = plain.stderr.decode()
    message = (
        f"nope: is neither a file nor a shipped model; shipped models: {', '.join(shipped_models())}; "
        "others by name: srgan-fast models --available"
    )
    assert text == f"error: {message}\n"
    debug = run_process("--debug", "models", "nope")
    assert debug.returncode == 1
    assert b"Traceback (most recent call last)" in debug.stderr
    assert b"read_model" in debug.stderr
    assert debug.stderr.decode().splitlines()[-1] == f"srgan_fast.errors.ModelError: {message}"


def _raise(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Makes `srgan-fast models` end that way."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("srgan_fast.models.shipped_models", fail)


@pytest.mark.parametrize("kind", [BackendError, DataError, ImageError, ModelError, TrainingError, UsageError, OSError])
def test_errors_that_a_user_can_act_on_are_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    message = "a[1].png: :boom: [red]" + "long " * 60 + "end"
    _raise(monkeypatch, kind(message))
    result = run("models")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {message}\n")
    with pytest.raises(kind):
        run("--debug", "models")


def test_mistakes_of_ours_are_not_hidden(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _raise(monkeypatch, KeyError("oops"))
    with pytest.raises(KeyError):
        run("models")


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_an_interruption_has_the_exit_code_that_shells_expect(
    run: Any, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    _raise(monkeypatch, KeyboardInterrupt())
    result = run(*options, "models")
    assert (result.exit_code, result.stderr) == (130, "interrupted; no partial files were left\n")


# Python writes at once, or when it exits.
BUFFERING = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


@BUFFERING
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--version"]], ids=" ".join)
def test_a_reader_that_is_gone_makes_no_noise(folder: Path, arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:
        command = [sys.executable, "-m", "srgan_fast", *arguments]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@BUFFERING
def test_a_full_disk_behind_standard_output_is_one_line(folder: Path, unbuffered: str) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "srgan_fast", "models", "--json"]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No space left" in done.stderr


def test_the_installed_command_is_the_same(run: Any) -> None:
    (entry,) = [e for e in entry_points(group="console_scripts") if e.name == "srgan-fast"]
    assert entry.load() is srgan_fast.cli.main
    assert convert.convert in [command.callback for command in app.registered_commands]

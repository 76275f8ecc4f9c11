"""Command line: one file per subcommand, which parses options, calls a task and presents its result."""

from srgan_fast.cli.app import main

__all__ = ["main"]

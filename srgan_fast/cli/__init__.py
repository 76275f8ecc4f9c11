"""The command line: one file per subcommand. They parse, call a task, and present; the tasks do the work."""

from srgan_fast.cli.app import main

__all__ = ["main"]

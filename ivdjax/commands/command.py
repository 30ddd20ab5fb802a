"""One command of the program: its options and what it does with them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ivdjax.commands.commands import CommandParser, run_command


@dataclass(frozen=True)
class Command:
    """A command as `ivdjax NAME`, as a script of its own, or as `python -m MODULE`.

    Attributes:
        description: what it does, its first line a sentence by itself.
        add_options: adds its options to a parser.
        run: does it; the exit code.
        epilog: what the help says after the options.
        end: the last thing before the process ends, given the exit code; gives the final one.
    """

    description: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str = ""
    end: Callable[[int], int] = int

    def main(self, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
        """Parses the options and runs the command; the exit code.

        Args:
            arguments: without the program's name; None: those of the process.
            prog: what usage and messages call the program; None: the script's name.
        """
        parser = CommandParser(self.description, self.epilog, prog=prog)
        self.add_options(parser)
        return self.perform(parser.parse_args(arguments))

    def perform(self, options: argparse.Namespace) -> int:
        """Runs the command with options that are parsed; the exit code."""
        return self.end(run_command(lambda: self.run(options)))

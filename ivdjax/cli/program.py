# PYTHON_ARGCOMPLETE_OK
"""The program `ivdjax`: one name for all commands."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence

from ivdjax import __version__
from ivdjax.commands.command import Command
from ivdjax.commands.commands import REFUSED, CommandParser

DESCRIPTION = """\
Finds, numbers, outlines and measures intervertebral discs in MR images of the lumbar spine.

For research; not a medical device. `ivdjax COMMAND --help` lists the options of a command."""

EPILOG = """\
Completion of commands, options and models in bash or zsh:  eval "$(register-python-argcomplete ivdjax)"
Exit codes: 0 all done; 1 at least one case failed; 2 nothing was started; 130 Ctrl-C; 143 SIGTERM"""

COMMANDS: dict[str, tuple[str, str]] = {
    "infer": ("ivdjax.cli.infer", "find the discs in images"),
    "review": ("ivdjax.review.command", "look at results in a browser and correct them"),
    "compare": ("ivdjax.inference.visits.compare", "compare the visits of a subject"),
    "merge": ("ivdjax.cli.merge", "bring the results of several runs together in one folder"),
    "figure": ("ivdjax.cli.figure", "draw a picture of a result for a paper"),
    "evaluate": ("ivdjax.cli.evaluate", "score results against references"),
    "train": ("ivdjax.cli.train", "train a model"),
    "cross-validate": ("ivdjax.cli.cross_validate", "train and score every fold of a configuration"),
    "convert": ("ivdjax.evaluation.convert", "convert a label map to another tool's numbers"),
    "phantom": ("ivdjax.cli.phantom", "make synthetic cases"),
    "models": ("ivdjax.cli.models", "list, find, check and add models"),
}
"""Of each command the module that has it, as `COMMAND`, and what it does. A module is loaded where it is asked for."""


def main(arguments: Sequence[str] | None = None, prog: str = "ivdjax") -> int:
    """Runs the command that the arguments name; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # A shell that completes a line gives it in the environment.
    completing = os.environ.get("COMP_LINE")
    chosen = _chosen(completing.split()[1:] if completing is not None else words)
    parser = program_parser(prog, chosen)
    if completing is not None:
        import argcomplete

        argcomplete.autocomplete(parser)
    if not words:
        parser.print_help(sys.stderr)
        return REFUSED
    options = parser.parse_args(words)
    return _command(options.command).perform(options)


def program_parser(prog: str, chosen: str | None) -> argparse.ArgumentParser:
    """The parser of the program, with the options of the chosen command; the others have a name and a line of help."""
    parser = CommandParser(DESCRIPTION, EPILOG, prog=prog)
    parser.add_argument("--version", action="version", version=f"ivdjax {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for name in available_commands():
        line = COMMANDS[name][1]
        if name == chosen:
            command = _command(name)
            command.add_options(
                commands.add_parser(name, help=line, description=command.description, epilog=command.epilog)
            )
        else:
            commands.add_parser(name, help=line)
    return parser


def available_commands() -> list[str]:
    """Names of the commands that are installed."""
    return [name for name, (module, _) in COMMANDS.items() if _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _command(name: str) -> Command:
    command: Command = importlib.import_module(COMMANDS[name][0]).COMMAND
    return command


def _chosen(words: Sequence[str]) -> str | None:
    """The first word that is no option, if it is a command's name."""
    first = next((word for word in words if not word.startswith("-")), None)
    return first if first in available_commands() else None


if __name__ == "__main__":
    sys.exit(main())

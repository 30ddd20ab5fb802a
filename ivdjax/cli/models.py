"""`ivdjax models`: which models there are, where they lie, whether they are whole; and adding one."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ivdjax.commands.command import Command
from ivdjax.commands.commands import DONE, FAILED, CommandParser
from ivdjax.volume import UserError

DESCRIPTION = """\
Lists, finds, checks and adds models.

A model's name can be given wherever its folder can."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the actions and their options."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True,
                                    parser_class=CommandParser)  # fmt: skip
    actions.add_parser("list", help="every model that has a name")
    path = actions.add_parser("path", help="print the folder of a model")
    path.add_argument("model", metavar="MODEL", help="a model's name")
    verify = actions.add_parser("verify", help="check that models are whole, by their checksums")
    verify.add_argument("models", nargs="*", metavar="MODEL", help="names or folders (default: every named model)")
    adding = actions.add_parser("import", help="copy a model's folder, so that it can be used by a name")
    adding.add_argument("folder", metavar="FOLDER", help="such as runs/NAME/model")
    adding.add_argument("--name", metavar="NAME", help="the name that it gets (default: the model's own)")
    adding.add_argument("--overwrite", action="store_true", help="replace a model that was added before")


def run(options: Namespace) -> int:
    """Does what was asked for; the exit code."""
    from ivdjax.model.shipped import model_folder

    if options.action == "list":
        return _list()
    if options.action == "path":
        print(model_folder(options.model).resolve())
        return DONE
    if options.action == "verify":
        return _verify(options.models)
    return _import(options)


def _list() -> int:
    from ivdjax.model.shipped import known_models, model_facts

    known = known_models()
    if not known:
        print("no model is installed; ivdjax models import FOLDER adds one")
    width = max(map(len, known), default=0)
    for name, folder in known.items():
        facts = model_facts(folder)
        channels = facts.get("channels")
        shown = ", ".join(map(str, channels)) if isinstance(channels, list) else "unknown channels"
        data = "synthetic phantoms" if facts.get("synthetic") else str(facts.get("credit") or "not stated")
        size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 2**20
        print(f"{name:<{width}}  channels: {shown}; {size:.1f} MiB; {folder}")
        print(
            textwrap.fill(
                f"trained on {data}", 120, initial_indent=" " * (width + 2), subsequent_indent=" " * (width + 2)
            )
        )
    return DONE


def _verify(models: list[str]) -> int:
    from ivdjax.model.model import read_model
    from ivdjax.model.shipped import known_models

    code = DONE
    for name in models or list(known_models()):
        try:
            model = read_model(name)
        except UserError as error:
            print(f"{name}: DAMAGED: {error}")
            code = FAILED
        else:
            print(f"{name}: whole; weights {model.weights_sha256[:12]}, networks {', '.join(model.networks)}")
    return code


def _import(options: Namespace) -> int:
    from ivdjax.model.model import read_model
    from ivdjax.model.shipped import add_model

    folder = Path(options.folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    model = read_model(folder)
    target = add_model(folder, options.name or model.name, options.overwrite)
    print(f"{target.name}: {target}; use it with --model {target.name}")
    return DONE


COMMAND = Command(DESCRIPTION, add_options, run)

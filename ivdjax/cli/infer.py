"""`ivdjax infer`: finds, numbers and measures the discs of a cohort."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ivdjax.commands.anchor import parse_anchor, read_anchors
from ivdjax.commands.command import Command
from ivdjax.commands.commands import local_output
from ivdjax.config import InferenceConfig
from ivdjax.settings import settings_of
from ivdjax.volume import UserError

if TYPE_CHECKING:
    from ivdjax.inference.ray_cohort import RayOptions

MOST_S = 1e6
"""The longest --timeout, eleven days."""


DESCRIPTION = """\
Finds, numbers and measures intervertebral discs.

INPUT is one of these:
  an image file           scan.nii.gz; NAME_<channel>.nii.gz where the model has several channels
  a case folder           NAME/NAME_<channel>.nii.gz, or a folder with DICOM files or series
  a folder of cases       case folders, images (P01.nii.gz ...), or a BIDS dataset
  a worklist              a .csv with the columns case, channel and path
  channel=path pairs      together with --case NAME; a path is a file or the folder of a DICOM series
A case may lack channels of the model; a remark then names them. docs/inference.md has the details.
For research; not a medical device."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of inference."""
    given = parser.add_argument_group("input and output")
    given.add_argument("inputs", nargs="+", metavar="INPUT", help="images; see above")
    given.add_argument("--model", metavar="MODEL", help="name or folder of a model (default: lumbar, for one channel "
                       "of any contrast)").completer = _model_names  # type: ignore[attr-defined]  # fmt: skip
    given.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    given.add_argument("--case", metavar="NAME", help="name of the case, for channel=path pairs or one image")
    given.add_argument("--overwrite", action="store_true", help="replace results that are already there")
    given.add_argument("--timeout", type=float, metavar="S", help="give up a case after S seconds")
    given.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only the cases with this "
                       "value in the summary of an earlier run, such as verdict=review; may be repeated")  # fmt: skip
    given.add_argument(
        "--summary", metavar="CSV", help="the summary for --where, or its folder (default: the one in --output)"
    )
    given.add_argument("--contrast", choices=("t1", "t2", "pd", "stir", "other"), help="weighting of the images, "
                       "if neither the DICOM header nor the file name shows it; signal ratios are given for t2 "
                       "only")  # fmt: skip
    levels = parser.add_argument_group("corrections, kept for later runs")
    levels.add_argument("--anchor", metavar="L4/5=X,Y,Z", help="a point in the disc of that level, in RAS+ mm or as "
                        '"L 7.6 P 122.8 I 222.2"; for one case')  # fmt: skip
    levels.add_argument(
        "--anchors", metavar="CSV", help="table of such points for several cases, with the columns case, level, x, y, z"
    )
    levels.add_argument("--reset-corrections", action="store_true", help="take back earlier corrections of the cases")
    visits = parser.add_argument_group("visits of a subject, to be compared")
    visits.add_argument("--subject-pattern", default="", metavar="REGEX", help="regular expression whose first "
                        "group, searched in a case's name, is the subject")  # fmt: skip
    visits.add_argument("--subject-table", default="", metavar="CSV", help="table with the columns case and subject")
    outputs = parser.add_argument_group("form of the results")
    outputs.add_argument("--bids", action="store_true", help="name the outputs as a BIDS derivative dataset does")
    outputs.add_argument("--save-probabilities", action="store_true", help="also write the probability of disc")
    outputs.add_argument("--anonymous", action="store_true", help="leave patient data out of the DICOM files")
    outputs.add_argument("--no-grades", action="store_true", help="do not estimate Pfirrmann grades")
    cluster = parser.add_argument_group("a cluster with Ray (pip install 'ivdjax[ray]')")
    cluster.add_argument("--ray", metavar="ADDRESS", help="run on Ray: local, auto, or an address such as "
                         "ray://HOST:10001")  # fmt: skip
    cluster.add_argument("--ray-workers", type=int, default=0, metavar="N", help="number of workers "
                         "(default: one per GPU, or one for every --ray-cores)")  # fmt: skip
    cluster.add_argument("--ray-cores", type=int, default=4, metavar="N", help="cores of each worker (default: 4)")
    cluster.add_argument("--ray-memory", type=float, default=0.0, metavar="GIB", help="memory that a case may take "
                         "in addition to the model (default: no limit)")  # fmt: skip
    settings = parser.add_argument_group("settings")
    settings.add_argument("--set", action="append", default=[], metavar="inference.KEY=VALUE", help="change a setting "
                          "of the model; may be repeated")  # fmt: skip


def run(options: Namespace) -> int:
    """Infers; the exit code."""
    if options.timeout is not None and not 0 < options.timeout <= MOST_S:
        raise UserError(f"--timeout must be above 0 and at most {MOST_S:g} seconds, not {options.timeout:g}; "
                        "without it a case may take any time")  # fmt: skip
    if options.summary is not None and not options.where:
        raise UserError("--summary goes with --where, which selects from it")
    anchor = parse_anchor(options.anchor) if options.anchor is not None else None
    anchors = read_anchors(Path(options.anchors)) if options.anchors is not None else {}
    from ivdjax.inference.infer import infer  # after the options are known to be right
    from ivdjax.inference.request import InferenceRequest
    from ivdjax.inference.results import OutputOptions
    from ivdjax.model.shipped import default_model, model_folder

    rows = infer(
        InferenceRequest(
            model=model_folder(options.model) if options.model is not None else default_model(),
            output=local_output(options.output),
            inputs=tuple(options.inputs),
            case=options.case,
            overwrite=options.overwrite,
            timeout_s=options.timeout,
            overrides=_overrides(options),
            anchor=anchor,
            anchors=anchors,
            reset_corrections=options.reset_corrections,
            options=OutputOptions(options.bids, options.save_probabilities, options.anonymous),
            subject_pattern=options.subject_pattern,
            subject_table=options.subject_table,
            where=tuple(options.where),
            ray=_ray_options(options),
            summary=None if options.summary is None else Path(options.summary),
        )
    )
    return int(any(row.failed for row in rows))


def _overrides(options: Namespace) -> tuple[str, ...]:
    """The settings that the options change."""
    contrast = [f"inference.contrast={options.contrast}"] if options.contrast else []
    return (*options.set, *(["inference.grades=false"] if options.no_grades else []), *contrast)


def _ray_options(options: Namespace) -> RayOptions | None:
    """What the options say of a cluster; None for this machine's own worker."""
    if options.ray is None:
        return None
    if options.ray_workers < 0 or options.ray_cores < 1 or not 0 <= options.ray_memory < 2**20:
        raise UserError("--ray-workers must be 0 or more, --ray-cores 1 or more, --ray-memory 0 or more GiB")
    from ivdjax.inference.ray_cohort import RayOptions

    return RayOptions(options.ray, options.ray_workers, options.ray_cores, options.ray_memory)


def _model_names(**_: object) -> list[str]:
    from ivdjax.model.shipped import known_models

    return list(known_models())


def _setting_lines() -> str:
    """Every setting of inference, for the help."""
    lines = ["settings for --set inference.KEY=VALUE, with their defaults; a model may have other defaults:"]
    for one in settings_of(InferenceConfig):
        lines += [f"  {one.key} ({one.default})", *textwrap.wrap(one.meaning, 100, initial_indent="      ",
                  subsequent_indent="      ")]  # fmt: skip
    return "\n".join(lines)


COMMAND = Command(DESCRIPTION, add_options, run, _setting_lines())

"""Finds, numbers and measures intervertebral discs: python infer.py --model models/NAME --output OUT INPUT [INPUT ...]

INPUT is a case folder (NAME/NAME_<channel>.nii.gz, or a folder of DICOM series), a folder of case folders, one image
file (NAME_<channel>.nii.gz where the model has several channels), or channel=path pairs together with --case NAME, a
path being a file or the folder of a DICOM series. A case may lack channels of the model; its verdict then names them.
For research; not a medical device.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ivdjax.commands.anchor import parse_anchor, read_anchors
from ivdjax.commands.commands import CommandParser, local_output, run_command
from ivdjax.volume import UserError

MOST_S = 1e6
"""The longest --timeout, eleven days."""


def main() -> int:
    """Parses the options and infers; the exit code."""
    parser = CommandParser(description=__doc__ or "")
    parser.add_argument("inputs", nargs="+", metavar="INPUT")
    parser.add_argument("--model", required=True, metavar="DIR", help="the model's folder")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--case", metavar="NAME", help="name of the case, for channel=path pairs")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are already there")
    parser.add_argument("--timeout", type=float, metavar="S", help="give a case up after S seconds")
    parser.add_argument("--anchor", metavar="L4/5=X,Y,Z", help="a point in the disc of that level, RAS+ mm; one case")
    parser.add_argument("--anchors", metavar="CSV", help="such points of several cases: columns case, level, x, y, z")
    parser.add_argument("--reset-corrections", action="store_true", help="take back earlier corrections of the cases")
    parser.add_argument("--bids", action="store_true", help="name the outputs as a BIDS derivative dataset does")
    parser.add_argument("--save-probabilities", action="store_true", help="write the probability of disc too")
    parser.add_argument("--anonymous", action="store_true", help="leave the patient out of the DICOM segmentation")
    parser.add_argument("--subject-pattern", default="", metavar="REGEX", help="first group: subject; compares visits")
    parser.add_argument("--subject-table", default="", metavar="CSV", help="columns case and subject; compares visits")
    parser.add_argument("--set", action="append", default=[], metavar="inference.KEY=VALUE", help="another setting")
    options = parser.parse_args()

    def run() -> int:
        if options.timeout is not None and not 0 < options.timeout <= MOST_S:
            raise UserError(f"--timeout must be above 0 and at most {MOST_S:g} seconds, not {options.timeout:g}; "
                            "without it a case may take any time")  # fmt: skip
        anchor = parse_anchor(options.anchor) if options.anchor is not None else None
        anchors = read_anchors(Path(options.anchors)) if options.anchors is not None else {}
        from ivdjax.inference.infer import InferenceRequest, infer  # after the options are known to be right
        from ivdjax.inference.results import OutputOptions

        outputs = OutputOptions(options.bids, options.save_probabilities, options.anonymous)
        rows = infer(
            InferenceRequest(
                Path(options.model), local_output(options.output), tuple(options.inputs), options.case,
                options.overwrite, options.timeout, tuple(options.set), anchor, anchors,
                options.reset_corrections, outputs, options.subject_pattern, options.subject_table,
            )
        )  # fmt: skip
        return int(any(row.status == "failed" for row in rows))

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())

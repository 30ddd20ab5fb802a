"""Writes patients with a tissue map as Dixon cases, whose four channels are made as in training: one command.

    python -m benchmarks.made_dixon --output FOLDER [--channel t2] CASES [CASES ...]

CASES are case folders with a reference, or folders of them. Each becomes FOLDER/<case>/ with `<case>_fat`, `_inn`,
`_opp` and `_wat`, its labels and its tissue map, on the grid of its file (thick slices are divided, as in
preparation). The same name gives the same scan every time
(`ivdjax.training.dixon_cases`). A Dixon model's numbering and outlines are judged on them where no Dixon scan of a
person has outlines. The files show patients as the originals do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from benchmarks.reference_cases import reference_cases
from ivdjax.commands.commands import run_command
from ivdjax.config import PreparationConfig
from ivdjax.data.datasets import LABELS, TISSUE_MAP, CaseFiles, read_case
from ivdjax.data.preparation import prepare
from ivdjax.imaging.files import nifti
from ivdjax.imaging.folders import whole_folder
from ivdjax.training.dixon_cases import as_dixon
from ivdjax.volume import DIXON, UserError


def main() -> int:
    """Writes every case; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASES")
    parser.add_argument("--channel", default="t2", metavar="C", help="of the image to make them from (t2)")
    parser.add_argument("--output", required=True, metavar="FOLDER")
    options = parser.parse_args()

    def run() -> int:
        for files in tqdm(reference_cases(options.cases, [options.channel]), desc="cases", unit="case"):
            write_as_dixon(files, options.channel, Path(options.output))
        return 0

    return run_command(run)


def write_as_dixon(files: CaseFiles, channel: str, output: Path) -> Path:
    """One case; its new folder.

    Raises:
        UserError: it has no tissue map, without which marrow cannot be told from muscle.
        CaseError: it cannot be read.
    """
    case = read_case(files, [channel])
    if case.tissues is None or case.labels is None:
        raise UserError(f"case {files.name}: no tissue map ({files.name}_Tissues.nii.gz) beside the labels")
    spacing_mm = case.volume.grid.spacing_mm
    made = as_dixon(prepare(case, PreparationConfig(spacing_mm=(spacing_mm[1], spacing_mm[2])), True), DIXON)
    assert made.labels is not None and made.tissues is not None  # for the type checker: the case has both
    affine = made.grid.affine
    with whole_folder(output / files.name) as folder:
        for name, array in zip(made.channels, made.image, strict=True):
            nifti.write(folder / f"{files.name}_{name}.nii.gz", array, affine)
        nifti.write(folder / f"{files.name}_{LABELS.title()}.nii.gz", made.labels, affine)
        nifti.write(folder / f"{files.name}_{TISSUE_MAP.title()}.nii.gz", made.tissues, affine)
    return output / files.name


if __name__ == "__main__":
    sys.exit(main())

"""The whole program on damaged cases, or with a damaged model: `infer.py` as a user runs it."""

from __future__ import annotations

import csv
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.fuzz.documents import spoiled_json
from tests.fuzz.hunt import Tally, keep
from tests.fuzz.mutation import Mutator
from tests.fuzz.sample import Sample
from tests.fuzz.series import WORDS
from tests.fuzz.worker import named

SOUND = "sound"
"""The case among them that nothing is wrong with."""

_DAMAGED = 8
_DAMAGED_MODELS = 0.3
"""How many cases of a cohort are damaged, and how often the model is, too."""

_TRACEBACK = "Traceback (most recent call last)"
_LIMIT_S = 240.0
_WHOLE = ("{}_discs.nii.gz", "{}_discs.csv", "{}_discs.json", "{}_overview.png", "report.html")


class Cohort:
    """Runs of `infer.py` in folders of their own."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._root = folder, root
        self._count = 0

    def hunt(self, mutator: Mutator, seed: str, findings: Path, tally: Tally) -> None:
        """Draws a cohort of damaged cases and a sound one, and keeps it if something goes wrong."""
        chance = random.Random(seed)
        files: dict[str, bytes] = {}
        for number in range(_DAMAGED):
            drawn = mutator.draw(chance, ("volume", "series"))
            files |= {_moved(name, f"case{number}"): content for name, content in drawn.files.items()}
        sound = next(sample for sample in mutator.valid if sample.kind == "volume")
        files |= {_moved(name, SOUND): content for name, content in sound.files.items()}
        if chance.random() < _DAMAGED_MODELS:
            model = {path.name: path.read_bytes() for path in sorted(self._model().iterdir())}
            model["model.json"] = spoiled_json(model["model.json"], chance)
            files |= {f"model/{name}": content for name, content in model.items()}
        sample = Sample("cohort", files)
        reason = self.run(sample)
        tally.kinds["cohort"] += _DAMAGED
        tally.outcomes["finding" if reason else "in a cohort"] += _DAMAGED
        if reason:
            keep(sample, reason, f"seed {seed}", findings, tally)

    def run(self, sample: Sample) -> str:
        """What went wrong with a cohort; empty where nothing did."""
        self._count += 1
        home = self._folder / str(self._count)
        for name, content in sample.files.items():
            path = home / ("" if name.startswith("model/") else "data") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        output = home / "results"
        model = home / "model" if (home / "model").is_dir() else self._model()
        command = [sys.executable, str(self._root / "infer.py"), "--model", str(model), "--output", str(output),
                   "--timeout", "60", str(home / "data")]  # fmt: skip
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command, cwd=self._root, env=environment, text=True, errors="replace", stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            said = process.communicate(timeout=_LIMIT_S)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return f"infer.py hangs: no end after {_LIMIT_S:g} s"
        if process.returncode == 2 and "model/model.json" in sample.files:
            return f"a refusal with more:\n{said[-3000:]}" if _TRACEBACK in said or output.exists() else ""
        return _complaint(process.returncode, said, output, sample)

    def _model(self) -> Path:
        """Made by a process of its own: the hunt itself never loads JAX."""
        folder = self._folder / "model"
        if not folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            code = ("import sys; from pathlib import Path; from tests.untrained_model import write_untrained; "
                    "write_untrained(Path(sys.argv[1]), ['t2', 'wat'])")  # fmt: skip
            environment = os.environ | {"JAX_PLATFORMS": "cpu"}
            subprocess.run([sys.executable, "-c", code, str(folder)], cwd=self._root, env=environment, check=True,
                           timeout=_LIMIT_S)  # fmt: skip
        return folder


def _moved(name: str, case: str) -> str:
    """The path in another case's folder, its file named anew; but for voxels, whose name stands in a header."""
    if name.endswith(".raw"):
        return name.replace("case", case, 1)
    return "/".join(part.replace("case", case, 1) if part.startswith("case") else part for part in name.split("/"))


def _complaint(code: int, said: str, output: Path, sample: Sample) -> str:
    if code not in (0, 1):
        return f"exit code {code}:\n{said[-3000:]}"
    log = output / "infer.log"
    text = said + (log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "")
    if _TRACEBACK in text:
        return f"a traceback:\n{text[-5000:]}"
    with (output / "summary.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    # A folder whose damage leaves no sign of a case in it is none.
    unknown = rows.keys() - {name.partition("/")[0] for name in sample.files}
    own = "model/model.json" not in sample.files  # a damaged model may fit no case
    if unknown or (own and rows[SOUND]["status"] != "done"):
        return f"summary.csv: unknown cases {sorted(unknown)}, sound case {rows[SOUND]}\n{said[-2000:]}"
    for case, row in rows.items():
        whole = (output / case).is_dir()
        if whole != (row["status"] == "done") or (row["status"] == "failed" and not row["reasons"]):
            return f"case {case} is {row}, its folder is {'there' if whole else 'not there'}"
        missing = [name.format(case) for name in _WHOLE if whole and not (output / case / name.format(case)).is_file()]
        if missing:
            return f"case {case} is done, but lacks {missing}"
    left = [path.name for path in output.rglob(".*") if path.name.endswith((".part", ".old"))]
    if left:
        return f"left behind: {left}"
    return named(WORDS, _texts(output, said))


def _texts(output: Path, said: str) -> str:
    """All that was said or written as text; the DICOM segmentation alone may name the patient."""
    endings = (".csv", ".json", ".html", ".log", ".label", ".ctbl")
    files = [path for path in output.rglob("*") if path.suffix in endings]
    text = "\n".join([said, *(path.read_text(encoding="utf-8", errors="replace") for path in files)])
    return re.sub(r"[A-Za-z0-9+/]{200,}", " ", text)  # pictures and scripts: any letters, by chance a name too

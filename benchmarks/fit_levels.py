"""Fits the numbers of the level solver, and a model's calibration, to cases whose levels are known: one command.

    python -m benchmarks.fit_levels --model models/NAME [--model ...] --patients FOLDER --phantoms FOLDER [...]
        [--real FOLDER ...] [--check FOLDER ...] [--rounds N]

FOLDERs hold case folders with numbered references, or sets of such folders. Patients whose names the model's
configuration holds out (`data.validation`) are left out. Each patient is seen in eight views: whole, cut at random
above and below, with air added, with merged slices and in contrasts that the model was not trained on; every other
phantom in two.

1. The numbers (`ivdjax/discs/anatomy.json`, see `ivdjax/discs/anatomy.py`): the log probability of the true levels is
   raised, by gradient, with a penalty for leaving the numbers that were measured on outlined discs. Those that say how
   far the localization network is to be trusted are not fitted: it was trained on these patients. Patients together
   count as much as phantoms together.
2. The calibration of confidence, and the model of the verdict, stored in the model's description (`model.json`): see
   `benchmarks/level_calibration.py`. `--real` gives scans of other scanners, used for these few numbers alone.

With several models the numbers are fitted to all of their cases, and each model gets its calibration; the first one's
verdict is the program's own, for models without. What comes out is told of training cases by cross-fits, and of the
phantoms that `--check` gives, which take part in nothing. `--rounds 0` keeps the numbers. The networks run once a case
and view; what they say is kept under `cache/evidence`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.level_calibration import cross_fitted, fit_judgement, judge_case, plain, report, worth
from benchmarks.level_cases import LevelCase, level_cases
from benchmarks.real_scans import find_scans
from ivdjax.commands.commands import run_command
from ivdjax.discs import anatomy as a
from ivdjax.discs.chain import Factors
from ivdjax.discs.spine_model import Observations, observe, spine_factors
from ivdjax.imaging.folders import write_whole
from ivdjax.model.model import annotate_model, read_model

_IMPOSSIBLE = -1e9
_HELD = ("side_", "vote_", "landmark_", "level_", "shift_", "sure_", "lost")
"""Numbers that are not fitted, by how their names begin: the cost of lying off the line, whose cap allows no density,
and how far the localization network is to be trusted, which its own training patients cannot tell."""
_SIZES = (8, 12, 18, 30)
"""Candidates that cases are padded to: one compiled program each."""
_SHRINK = {"real": 0.35, "positive": 0.35, "share": 0.8}
"""Spread of the penalty's normal distribution, by kind: of real numbers in units of the level's own spread."""
_SPREAD = {
    "tilt_deg": 4.0, "log_width": 0.06, "log_volume": 0.2, "step_mm": 0.05, "tilt_trend_deg": 1.0,
    "log_width_trend": 0.02, "log_volume_trend": 0.05, "step_trend_mm": 0.5, "freedom": 0.3, "side_limit": 0.3,
}  # fmt: skip


def main() -> int:
    """Fits and writes; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="M", dest="models")
    parser.add_argument("--patients", nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--phantoms", nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--real", nargs="+", default=[], metavar="FOLDER", help="for the calibration alone")
    parser.add_argument("--check", nargs="+", default=[], metavar="FOLDER", help="phantoms to try it on")
    parser.add_argument("--rounds", type=int, default=80, metavar="N", help="steps of the optimizer; 0: none")
    options = parser.parse_args()

    def run() -> int:
        cases = {model: fit_cases(model, options.patients, options.phantoms) for model in options.models}
        if options.rounds:
            numbers, figures = fit([case for found in cases.values() for case in found], read_priors(), options.rounds)
            write_numbers(numbers, figures, a.FILE)
            print(json.dumps(figures, indent=1))
            # The numbers are read when the package is imported: a process of its own calibrates with the new ones.
            command = [sys.executable, "-m", "benchmarks.fit_levels", *sys.argv[1:], "--rounds", "0"]
            return subprocess.run(command, check=False).returncode
        for place, model in enumerate(options.models):
            calibrate(model, cases[model], options.real, options.check, whole=place == 0)
        return 0

    return run_command(run)


def calibrate(model: str, cases: Sequence[LevelCase], real: Sequence[str], check: Sequence[str], whole: bool) -> None:
    """Fits a model's judgement, tells how good it is and stores it; `whole`: as the program's own too."""
    loaded = read_model(model)
    others = level_cases(model, [], [], find_scans(real, loaded.channels) if real else [])
    settings = loaded.config.inference
    judged = [judge_case(settings, case) for case in (*cases, *others)]
    judgement = fit_judgement(judged)
    print(f"## {model}\n\n{worth(judged, judgement)}")
    tried = cross_fitted(judged)
    for kind in ("patient", "phantom", "real"):
        if chosen := [pair for pair in tried if pair[0].kind == kind]:
            print(report(f"{kind}, cross-fitted", chosen))
    if check:
        unseen = level_cases(model, [], find_scans(check, loaded.channels))
        print(report("phantoms kept apart", [(judge_case(settings, case), judgement) for case in unseen]))
    annotate_model(model, {"levels": plain(judgement)})
    if whole:
        stored = json.loads(a.FILE.read_text(encoding="utf-8"))
        own = {key: value for key, value in plain(judgement).items() if key != "confidence"}
        write_whole(a.FILE, json.dumps(stored | {"verdict": own}, indent=1) + "\n")


def read_priors() -> a.Numbers:
    """The numbers that a fit begins with and is drawn back to.

    Shapes: measured on the outlined discs of 22 training patients, spreads widened by a fifth and more; levels 0 and -1
    by ordinary sacra. The rest was set by hand.
    """
    found = json.loads(Path(__file__).with_name("level_priors.json").read_text(encoding="utf-8"))
    return {name: np.array(value, dtype=float) for name, value in found.items()}


def fit_cases(model: str, patients: Sequence[str], phantoms: Sequence[str]) -> list[LevelCase]:
    """The training patients and phantoms of a model in their views."""
    loaded = read_model(model)
    held_out = set(loaded.config.data.validation)
    found = find_scans(patients, loaded.channels) if patients else []
    return level_cases(
        model, [files for files in found if files.name not in held_out],
        find_scans(phantoms, loaded.channels) if phantoms else [],
    )  # fmt: skip


def fit(cases: Sequence[LevelCase], start: a.Numbers, rounds: int = 60) -> tuple[a.Numbers, dict[str, Any]]:
    """Numbers under which the true levels are the likeliest, and how likely they were before and after.

    Args:
        cases: with what is true of each.
        start: numbers to begin with, and to be drawn back to.
        rounds: of the optimizer, at most.
    """
    batches = _batches(cases)
    origin = _free(start)
    names = sorted(name for name in origin if not name.startswith(_HELD))
    sizes = [origin[name].size for name in names]

    def unpack(flat: Any) -> dict[str, Any]:
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        return origin | {name: part.reshape(origin[name].shape) for name, part in zip(names, parts, strict=True)}

    loss = jax.jit(jax.value_and_grad(lambda flat, batch: _loss(unpack(flat), batch)))
    shrink = np.concatenate([np.full(origin[name].size, _shrink(name)) for name in names])
    begin = np.concatenate([origin[name].ravel() for name in names])

    def objective(moved: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and slope; numbers are counted in the spreads that they may move by, which L-BFGS likes."""
        value, slope = 0.5 * float((moved**2).sum()), moved.copy()
        for batch in batches:
            part, gradient = loss(jnp.asarray(begin + shrink * moved), batch)
            value, slope = value + float(part), slope + shrink * np.asarray(gradient, dtype=float)
        return value, slope

    # The model of a spine is written for NumPy, which promotes ranks.
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        before = _accuracy(cases, start)
        found = minimize(objective, np.zeros(len(begin)), jac=True, method="L-BFGS-B", options={"maxiter": rounds})
        numbers = {
            name: np.asarray(value) for name, value in _bound(unpack(jnp.asarray(begin + shrink * found.x))).items()
        }
    figures = {
        "cases": len(cases), "numbers": len(begin), "rounds": int(found.nit), "before": before,
        "after": _accuracy(cases, numbers),
    }  # fmt: skip
    return numbers, figures


def write_numbers(numbers: a.Numbers, figures: dict[str, Any], path: Path) -> None:
    """Writes the numbers in the order of their meanings, four digits each."""
    numbers_plain = {name: np.vectorize(lambda x: float(f"{x:.4g}"))(numbers[name]).tolist() for name in a.MEANING}
    stored = json.loads(path.read_text(encoding="utf-8"))
    write_whole(path, json.dumps(stored | {"fitted": figures, "numbers": numbers_plain}, indent=1) + "\n")


def _free(numbers: a.Numbers) -> dict[str, np.ndarray]:
    """Numbers without bounds: logs of positive ones, log odds of shares."""
    found = {}
    for name, (kind, _) in a.MEANING.items():
        value = np.asarray(numbers[name], dtype=float)
        found[name] = value if kind == "real" else np.log(value) if kind == "positive" else np.log(value / (1 - value))
    return found


def _bound(free: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_free`."""
    bounds = {"real": lambda x: x, "positive": jnp.exp, "share": jax.nn.sigmoid}
    return {name: bounds[a.MEANING[name][0]](value) for name, value in free.items()}


def _shrink(name: str) -> float:
    return _SPREAD.get(name, _SHRINK[a.MEANING[name][0]])


def _batches(cases: Sequence[LevelCase]) -> list[tuple[Observations, Any, Any, Any]]:
    """Cases padded to few sizes: observations, what is allowed, number of candidates, weight."""
    counts = {kind: sum(case.kind == kind for case in cases) for kind in ("patient", "phantom")}
    batches = []
    for low, size in zip((0, *_SIZES), _SIZES, strict=False):
        chosen = [case for case in cases if low < len(case.candidates) <= size]
        if not chosen:
            continue
        seen = [_padded(observe(case.candidates, case.line), size) for case in chosen]
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *[vars(one) for one in seen])
        allowed = np.stack([np.pad(case.allowed, ((0, size - len(case.allowed)), (0, 0)), constant_values=True)
                            for case in chosen])  # fmt: skip
        weights = np.array([len(cases) / 2 / counts[case.kind] for case in chosen])
        batches.append((stacked, allowed, np.array([len(case.candidates) for case in chosen]), weights))
    return batches


def _padded(seen: Observations, size: int) -> Observations:
    """Observations of more candidates; what is added has harmless values."""
    count = len(seen.tilt_deg)
    more = size - count
    padded = {}
    for name, value in vars(seen).items():
        widths = ((0, more), (0, more)) if name == "distance_mm" else ((0, more),) + ((0, 0),) * (value.ndim - 1)
        padded[name] = np.pad(value, widths, constant_values=1.0)
    return Observations(**padded)


def _loss(free: dict[str, Any], batch: tuple[Any, Any, Any, Any]) -> Any:
    stacked, allowed, counts, weights = batch
    numbers = _bound(free)

    def one(seen: dict[str, Any], may: Any, count: Any) -> Any:
        factors = _masked(spine_factors(Observations(**seen), numbers, jnp), count)
        every = log_sum(factors)
        none = jnp.where(may[:, -1], factors.none, _IMPOSSIBLE)
        own = jnp.where(may[:, :-1, None], factors.own, _IMPOSSIBLE)
        true = log_sum(Factors(none, own, factors.first, factors.last, factors.pair, factors.hidden))
        return true - every

    return -(jax.vmap(one)(stacked, allowed, counts) * weights).sum()


def _masked(factors: Factors, count: Any) -> Factors:
    """Factors in which things beyond `count` are left out at no cost."""
    there = jnp.arange(len(factors.none)) < count
    none = jnp.where(there, factors.none, 0.0)
    own = jnp.where(there[:, None, None], factors.own, _IMPOSSIBLE)
    return Factors(none, own, factors.first, factors.last, jnp.maximum(factors.pair, _IMPOSSIBLE), factors.hidden)


def log_sum(factors: Factors) -> Any:
    """`ivdjax.discs.chain.log_sum` in JAX, for differentiation."""
    below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(factors.none)])
    count = len(factors.none)
    changed = partial(logsumexp, axis=1)

    def step(forward: Any, high: Any) -> tuple[Any, None]:
        # From each thing below, in each state, over the hidden state's change and then over the level's.
        moved = changed(forward[:, :, :, None].transpose(0, 2, 1, 3) + factors.hidden[None, :, None, :])
        skipped = below[high] - below[1:]
        reached = logsumexp(moved[:, :, None, :] + factors.pair[:, high][:, :, :, None], axis=1)
        reached = jnp.where((jnp.arange(count) < high)[:, None, None], reached + skipped[:, None, None], _IMPOSSIBLE)
        ways = jnp.concatenate([(below[high] + factors.first[high])[None], reached])
        return forward.at[high].set(factors.own[high] + logsumexp(ways, axis=0)), None

    start = jnp.full(factors.own.shape, _IMPOSSIBLE)
    forward, _ = jax.lax.scan(step, start, jnp.arange(count))
    ends = forward + factors.last[:, :, None] + (below[-1] - below[1:])[:, None, None]
    return jnp.logaddexp(logsumexp(ends), below[-1])


def _accuracy(cases: Sequence[LevelCase], numbers: a.Numbers) -> dict[str, float]:
    """How many cases are answered rightly as a whole under the numbers, and the mean log probability of the truth."""
    from ivdjax.discs.chain import state_probabilities
    from ivdjax.discs.levels import answer_of

    right, logs = {"patient": [], "phantom": []}, []
    for case in cases:
        posterior = state_probabilities(spine_factors(observe(case.candidates, case.line), numbers))
        levels = answer_of(posterior)
        right[case.kind].append(case.right(levels))
        logs.append(np.log(np.maximum((posterior * case.allowed).sum(axis=1), 1e-6)).sum())
    return {
        **{f"{kind}s_right": float(np.mean(found)) for kind, found in right.items() if found},
        "mean_log_probability": float(np.mean(logs)),
    }


if __name__ == "__main__":
    sys.exit(main())

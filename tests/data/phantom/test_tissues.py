from __future__ import annotations

import numpy as np

from ivdjax.data.phantom.tissues import TISSUES, Signals, sample_signals

PLANES = ("water", "fat", "t2")


def signals(seed: int) -> Signals:
    return sample_signals(np.random.default_rng(seed), PLANES, age=0.5)


def test_contrasts_are_those_of_anatomy_in_every_draw() -> None:
    for seed in range(30):
        water, fat, t2 = ({name: float(signals(seed)[name][i]) for name in TISSUES} for i in range(3))
        assert fat["fat"] > fat["marrow"] > 3 * fat["nucleus"], "fat image: bright fat, mid marrow, dark discs"
        assert water["nucleus"] > water["marrow"] > water["fat"], "water image: bright discs, dark fat"
        assert t2["csf"] > t2["nucleus"] > t2["worn_nucleus"] > t2["cortex"], "T2: bright fluid, dark cortex"
        assert t2["fat"] > t2["muscle"] > t2["ligament"]
        assert all(value >= 0 for value in (*water.values(), *fat.values(), *t2.values()))


def test_a_mixture_lies_between_its_tissues() -> None:
    drawn = signals(3)
    np.testing.assert_allclose(drawn.blend("fat", "csf", 0.25), 0.75 * drawn["fat"] + 0.25 * drawn["csf"], rtol=1e-5)


def test_planes_come_in_the_order_asked_for() -> None:
    both = sample_signals(np.random.default_rng(1), ("fat", "water"), age=0.5)
    np.testing.assert_array_equal(both["muscle"], signals(1)["muscle"][[1, 0]])

from __future__ import annotations

import numpy as np

from ivdjax.data.phantom.protocol import Protocol
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


def test_a_turbo_dixon_scan_shows_fluid_as_t2_does_and_the_t2_plane_stays_as_it_was() -> None:
    turbo = Protocol(dixon_turbo_ms=(4000.0, 100.0))
    drawn = sample_signals(np.random.default_rng(3), PLANES, 0.5, turbo)
    plain = signals(3)
    assert drawn["csf"][0] > drawn["nucleus"][0] > drawn["annulus"][0] and plain["csf"][0] < plain["nucleus"][0]
    assert drawn["csf"][2] == plain["csf"][2]


def test_a_leak_brightens_fat_in_the_water_image_and_water_in_the_fat_image() -> None:
    drawn = sample_signals(np.random.default_rng(3), PLANES, 0.5, Protocol(leak=(0.1, 0.05)))
    plain = signals(3)
    assert drawn["fat"][0] > plain["fat"][0] + 0.05 and drawn["nucleus"][1] > plain["nucleus"][1]

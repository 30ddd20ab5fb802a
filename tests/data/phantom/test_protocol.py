from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.data.phantom import PhantomOptions, make_phantom
from ivdjax.data.phantom.acquisition import sample_pose
from ivdjax.data.phantom.protocol import Protocol, sample_protocol
from ivdjax.data.phantom.spine import sample_spine
from ivdjax.volume import spacing_of

CLINICAL = PhantomOptions(field="clinical")


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("field", ["full", "slab"])
def test_the_other_fields_have_one_protocol(field: str) -> None:
    assert sample_protocol(rng(1), PhantomOptions(field=field)) == Protocol()


def test_clinical_protocols_differ_between_subjects_and_not_between_calls() -> None:
    drawn = [sample_protocol(rng(seed), CLINICAL) for seed in range(300)]
    assert sample_protocol(rng(5), CLINICAL) == drawn[5] and len(set(drawn)) == 300
    turbo = [p.dixon_turbo_ms for p in drawn if p.dixon_turbo_ms is not None]
    assert 0.3 < len(turbo) / 300 < 0.5
    assert any(repeat_ms < 900 for repeat_ms, _ in turbo) and any(repeat_ms > 2000 for repeat_ms, _ in turbo)
    assert 2 <= sum(p.swapped for p in drawn) <= 30


@pytest.mark.parametrize("hard", ["", "scoliosis"])
def test_a_clinical_field_has_the_sizes_of_clinical_scans_and_can_be_painted_in_seconds(hard: str) -> None:
    options = PhantomOptions(field="clinical", hard=hard)
    for seed in range(40):
        pose = sample_pose(rng(seed), sample_spine(rng(seed), hard), options, sample_protocol(rng(seed), options))
        spacing = np.array(spacing_of(pose.world))
        size = spacing * pose.shape
        assert 2 <= spacing[0] <= 5 and 0.8 <= spacing[1] < 1.4 and spacing[1] == pytest.approx(spacing[2])
        assert size[0] >= 60 and 260 <= size[1] < 345 and 260 <= size[2] < 345
        assert pose.shape[0] >= 15 and (hard or pose.shape[0] <= 40) and np.prod(pose.shape) <= 3.0e6


def test_shape_and_spacing_go_before_what_is_drawn() -> None:
    def lay(options: PhantomOptions) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
        pose = sample_pose(rng(3), sample_spine(rng(3)), options, sample_protocol(rng(3), options))
        return pose.shape, tuple(np.round(spacing_of(pose.world), 6))

    drawn_shape, drawn_spacing = lay(CLINICAL)
    shape, spacing = lay(PhantomOptions(field="clinical", shape=(12, 80, 56), spacing_mm=(5.0, 4.0, 3.5)))
    assert shape == (12, 80, 56) and spacing == (5.0, 4.0, 3.5)
    shape, spacing = lay(PhantomOptions(field="clinical", shape=(20, 288, 288)))
    assert shape == (20, 288, 288) and spacing[0] == drawn_spacing[0]
    shape, spacing = lay(PhantomOptions(field="clinical", spacing_mm=(4.0, 2.0, 2.0)))
    assert spacing == (4.0, 2.0, 2.0) and shape != drawn_shape and 130 <= shape[1] <= 172


def test_two_visits_share_the_protocol_and_a_swap_exchanges_water_and_fat(monkeypatch: pytest.MonkeyPatch) -> None:
    options = PhantomOptions(("wat", "fat", "inn"), "clinical", shape=(12, 80, 56), spacing_mm=(5.0, 4.0, 3.5))
    plain = make_phantom(2, options).case.volume.array
    visit = make_phantom(2, options, visit=2)
    assert visit.truth[0].level == 1 and not np.array_equal(visit.case.volume.array, plain)
    drawn = sample_protocol(np.random.default_rng([2, 5]), options)
    monkeypatch.setattr("ivdjax.data.phantom.phantom.sample_protocol", lambda *_: replace(drawn, swapped=True))
    np.testing.assert_array_equal(make_phantom(2, options).case.volume.array[[1, 0, 2]], plain)

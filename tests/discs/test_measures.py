from __future__ import annotations

import numpy as np
import pytest

from ivdjax.data.phantom.discs import disc_distance
from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.phantom.phantom import make_phantom
from ivdjax.data.phantom.spine import sample_spine
from ivdjax.discs.disc_axes import disc_points_mm, fit_axes
from ivdjax.discs.measures import SHAPE_MEASURES, measure_discs
from ivdjax.volume import LabelMap, Volume, to_world_mm

STRAIGHT = np.eye(3)
HEIGHTS = ("anterior_height_mm", "middle_height_mm", "posterior_height_mm")
BANDS = {"anterior_height_mm": (0.1, 0.3), "middle_height_mm": (0.4, 0.6), "posterior_height_mm": (0.7, 0.9)}


def canonical_affine(spacing=(2.0, 1.25, 1.25), shape=(40, 64, 64), turn=STRAIGHT, shift=(0.0, 0.0, 0.0)):
    """An affine of the canonical order (left, inferior, posterior rising), its middle `shift` voxels off the origin."""
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[-spacing[0], 0, 0], [0, 0, -spacing[2]], [0, -spacing[1], 0]])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2 + shift)
    return affine


def rotation(degrees, axis):
    """A right-handed turn about world axis 0 (right), 1 (anterior) or 2 (superior)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = c
    turn[i, j], turn[j, i] = -s, s
    return turn


def draw(inside, affine, shape=(40, 64, 64)):
    """A label map whose voxels are 1 where `inside` holds of the world mm (right, anterior, superior) of its centre."""
    world = to_world_mm(affine, np.moveaxis(np.indices(shape), 0, -1))
    return LabelMap(inside(world).astype(np.uint8), affine)


def box(world, turn=STRAIGHT, size=(48.0, 36.0, 8.0)):
    return np.all(np.abs(world @ turn) <= np.array(size) / 2, axis=-1)


def only(labels, volume=None):
    (disc,) = measure_discs(labels, volume, {1: 0.7})
    return disc


def ellipsoid(world, turn=STRAIGHT, size=(50.0, 36.0, 9.0)):
    return np.sum((world @ turn / (np.array(size) / 2)) ** 2, axis=-1) <= 1


def wedge(world, turn=STRAIGHT):
    """48 x 36 mm, 11.6 mm high in front and 4.4 mm behind: each face slopes by atan(0.1)."""
    x, y, z = np.moveaxis(world @ turn, -1, 0)
    return (np.abs(x) <= 24) & (np.abs(y) <= 18) & (np.abs(z) <= (8 + 0.2 * y) / 2)


def oval(world, turn=STRAIGHT):
    """An elliptic cylinder with sloping faces: 50 x 36 mm, 11.7 mm high in front and 6.3 mm behind."""
    x, y, z = np.moveaxis(world @ turn, -1, 0)
    return ((x / 25) ** 2 + (y / 18) ** 2 <= 1) & (np.abs(z) <= (9 + 0.15 * y) / 2)


def ellipsoid_height(share):
    """Mean over the 10 mm about the median plane of 9 * sqrt(1 - (x / 25)^2 - y^2), y from 1 (front) to -1."""
    x = (np.arange(200) + 0.5) / 40
    return 9 * np.mean(np.sqrt(1 - (x / 25) ** 2 - (1 - 2 * share) ** 2))


def truth_of(shape):
    """The measures of a shape about the origin, straight, by hand."""
    heights = {
        "box": lambda share: 8.0, "wedge": lambda share: 8 + 0.2 * 18 * (1 - 2 * share),
        "oval": lambda share: 9 + 0.15 * 18 * (1 - 2 * share), "ellipsoid": ellipsoid_height,
    }[shape]  # fmt: skip
    truth = {name: np.mean([heights(s) for s in np.linspace(*band, 21)]) for name, band in BANDS.items()}
    truth |= {"ap_width_mm": 36.0, "lateral_width_mm": 48.0 if shape in ("box", "wedge") else 50.0}
    slope = {"wedge": 0.1, "oval": 0.075}.get(shape, 0.0)
    truth["wedge_angle_deg"] = 2 * np.degrees(np.arctan(slope))
    volume = {"box": 48 * 36 * 8, "wedge": 48 * 36 * 8, "oval": np.pi / 4 * 50 * 36 * 9,
              "ellipsoid": np.pi / 6 * 50 * 36 * 9}  # fmt: skip
    return truth | {"volume_mm3": volume[shape]}


SHAPES = {"box": box, "wedge": wedge, "oval": oval, "ellipsoid": ellipsoid}
GRIDS = {"1 x 1 x 1": (1.0, 1.0, 1.0), "2 x 1.25 x 1.25": (2.0, 1.25, 1.25), "4 x 0.94 x 0.94": (4.0, 0.94, 0.94)}
OBLIQUE = rotation(12, 2) @ rotation(8, 0) @ rotation(6, 1)


def errors(shape, spacing, pose, oblique=STRAIGHT, shift=(0.2, -0.3, 0.4)):
    """Measured less true, by measure (volume in %), of a shape with a pose (tilt, lateral tilt, axial turn) in deg."""
    tilt, lateral, axial = pose
    turn = rotation(axial, 2) @ rotation(lateral, 1) @ rotation(tilt, 0)
    size = tuple(int(np.ceil(mm / step)) for mm, step in zip((80, 66, 66), spacing, strict=True))
    disc = only(draw(lambda world: SHAPES[shape](world, turn), canonical_affine(spacing, size, oblique, shift), size))
    truth = truth_of(shape)
    found = {name: disc.measures[name] - value for name, value in truth.items() if name != "volume_mm3"}
    forward = turn @ [0, 1, 0]
    found["tilt_deg"] = disc.measures["tilt_deg"] - np.degrees(np.arctan2(forward[2], forward[1]))
    found["volume_%"] = 100 * (disc.volume_mm3 / truth["volume_mm3"] - 1)
    found["centroid_mm"] = float(np.linalg.norm(disc.centroid_mm - turn @ centroid_of(shape)))
    return found


def centroid_of(shape):
    """Of the straight shape: sloping faces move it to the front by the mean of y * height over the mean height."""
    return np.array([0, {"wedge": 0.2 * 36**2 / 12 / 8, "oval": 0.15 * 18**2 / 4 / 9}.get(shape, 0.0), 0])


POSES = ((-31, 5, 4), (-14, -6, -8), (21, 4, 10))
"""Tilt as of L5/S1, L4/5 and T12/L1, with scoliosis: the faces are at least 5 degrees off the grids' voxel planes."""

TOLERANCES = {  # less, more
    "volume_%": (1, 1), **dict.fromkeys(HEIGHTS, (0.3, 0.3)), "wedge_angle_deg": (0.6, 0.6), "tilt_deg": (0.4, 0.4),
    "ap_width_mm": (0.4, 0.4), "lateral_width_mm": (0.4, 0.4), "centroid_mm": (0, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("oblique", [STRAIGHT, OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_tilted_shapes_of_known_size(shape, grid, oblique):
    # Widths of an ellipsoid's thin rim fall short; ends from side to side are known to half a slice each.
    slice_mm, rim_mm = GRIDS[grid][0], 1.0 if shape == "ellipsoid" else 0.0
    slack = {"ap_width_mm": (rim_mm, 0), "lateral_width_mm": (rim_mm + slice_mm / 2, slice_mm / 2),
             "centroid_mm": (0, slice_mm / 4)}  # fmt: skip
    for pose in POSES:
        for name, error in errors(shape, GRIDS[grid], pose, oblique).items():
            less, more = np.add(TOLERANCES[name], slack.get(name, 0))
            assert -less <= error <= more, f"{name} off by {error:.2f} at tilt {pose[0]}"


def test_any_pose_at_all():
    """Poses drawn at random, with faces along voxel planes among them: the figures of docs/measures.md."""
    rng = np.random.default_rng(5)
    for spacing in GRIDS.values():
        found = [
            errors(shape, spacing, (rng.uniform(-45, 25), rng.uniform(-8, 8), rng.uniform(-8, 8)),
                   shift=rng.uniform(-0.5, 0.5, 3))
            for shape in SHAPES for _ in range(8)
        ]  # fmt: skip
        heights = np.abs([error[name] for error in found for name in HEIGHTS])
        volume, wedge_deg = (np.abs([error[name] for error in found]) for name in ("volume_%", "wedge_angle_deg"))
        assert np.quantile(heights, 0.95) < 0.3 and heights.max() < 0.6, heights.max()
        assert np.quantile(volume, 0.95) < 2.0 and volume.max() < 3.0, volume.max()
        assert np.quantile(wedge_deg, 0.95) < 1.2 and wedge_deg.max() < 2.0, wedge_deg.max()


def test_axis_aligned_box_of_whole_voxels_is_measured_exactly():
    labels = np.zeros((30, 40, 50), np.uint8)
    labels[5:25, 10:16, 12:40] = 1  # 20 x 6 x 28 voxels of 2 x 1.25 x 1.25 mm: 40 wide, 7.5 high, 35 deep
    affine = canonical_affine(shape=labels.shape)
    disc = only(LabelMap(labels, affine))
    assert disc.volume_mm3 == disc.measures["volume_in_view_mm3"] == pytest.approx(40 * 7.5 * 35)
    assert disc.centroid_mm == pytest.approx(tuple(to_world_mm(affine, np.array([14.5, 12.5, 25.5]))))
    assert disc.level_confidence == 0.7 and disc.cut_at == ""
    for name in HEIGHTS:
        assert disc.measures[name] == pytest.approx(7.5, abs=0.01)
    assert disc.measures["ap_width_mm"] == pytest.approx(35, abs=0.01)
    assert disc.measures["lateral_width_mm"] == pytest.approx(40, abs=0.01)
    assert disc.measures["disc_height_index"] == pytest.approx(7.5 / 35, rel=0.001)
    assert disc.measures["wedge_angle_deg"] == pytest.approx(0, abs=0.01)
    assert disc.measures["tilt_deg"] == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_faces_along_voxel_planes_are_known_to_half_a_voxel_each(shift):
    disc = only(draw(box, canonical_affine((2.0, 1.25, 1.25), shift=(0, shift, 0))))
    rows = {0.0: 6, 0.25: 6, 0.5: 7}[shift]  # centres within 8 mm, 1.25 mm apart
    assert disc.measures["middle_height_mm"] == pytest.approx(1.25 * rows, abs=0.01)
    assert disc.volume_mm3 == pytest.approx(48 * 28 * 1.25 * 1.25 * rows)


def test_frame_finds_the_turns_it_was_given():
    turn = rotation(10, 2) @ rotation(-8, 1) @ rotation(-25, 0)
    labels = draw(lambda world: ellipsoid(world, turn), canonical_affine())
    axes = fit_axes(disc_points_mm(labels.array > 0, labels.affine), labels.affine, whole=True)
    found = np.stack([axes.right, axes.anterior, axes.superior], axis=1)
    assert np.degrees(np.arccos((np.trace(found.T @ turn) - 1) / 2)) < 1.5


def true_shape(disc):
    """Heights, AP width and volume of a phantom's disc, sampled densely along its own axes."""

    def inside(x, y, z):
        local = np.stack(np.meshgrid(x, y, z, indexing="ij")).reshape(3, -1)
        points = disc.frame.centre_mm[:, None] + disc.frame.axes.T @ local
        distance = disc_distance(disc, points.astype(np.float32).reshape(3, 1, 1, -1))
        return (distance <= 0).reshape(len(x), len(y), len(z))

    y, z = np.arange(-26, 26, 0.25) + 0.125, np.arange(-12, 12, 0.1)
    height = inside(np.linspace(-5, 5, 9), y, z).sum(axis=2).mean(axis=0) * 0.1
    (first, *_, last) = y[height >= 1.5]
    share = (last + 0.125 - y) / (last - first + 0.25)
    truth = {name: height[(share >= low) & (share <= high)].mean() for name, (low, high) in BANDS.items()}
    volume = inside(np.arange(-32, 32, 0.5) + 0.25, np.arange(-26, 26, 1.0) + 0.5, np.arange(-12, 12, 0.25)).sum()
    return truth | {"ap_width_mm": last - first + 0.25, "volume_mm3": volume * 0.5 * 1.0 * 0.25}


def test_discs_of_a_phantom_with_pits_and_rippled_endplates():
    spine, found = sample_spine(np.random.default_rng([3, 0])), []
    for level in range(1, 8):
        shape = spine.disc(level)
        affine = canonical_affine((2.0, 1.25, 1.25), turn=rotation(3, 1) @ rotation(2, 0), shift=(0.2, -0.3, 0.4))
        affine[:3, 3] += shape.frame.centre_mm
        disc = only(draw(lambda world, of=shape: disc_distance(of, np.moveaxis(world, -1, 0).astype(np.float32)) <= 0,
                         affine))  # fmt: skip
        truth, measured = true_shape(shape), disc.measures | {"volume_mm3": disc.volume_mm3}
        found.append({name: measured[name] - value for name, value in truth.items()})
        found[-1]["volume_mm3"] *= 100 / truth["volume_mm3"]
    heights = np.array([[error[name] for name in HEIGHTS] for error in found])
    assert np.abs(heights.mean(axis=0)).max() < 0.15 and np.abs(heights).max() < 0.5
    assert np.quantile(np.abs(heights), 0.9) < 0.3
    assert np.abs([error["ap_width_mm"] for error in found]).max() < 1.0
    assert np.abs([error["volume_mm3"] for error in found]).max() < 2.0


def test_the_truth_of_a_phantom():
    """The truth file has heights at 80 % of the way to the edges and in the middle, of endplates without ripples."""
    phantom = make_phantom(1, PhantomOptions(channels=("t2",), field="clinical"))
    discs = {disc.level: disc for disc in measure_discs(phantom.all_labels, None, {})}
    assert set(discs) == {truth.level for truth in phantom.truth}
    gaps = []
    for truth in phantom.truth:
        disc = discs[truth.level]
        assert disc.centroid_mm == pytest.approx(truth.centroid_mm, abs=0.01)
        assert disc.measures["volume_in_view_mm3"] == pytest.approx(truth.volume_mm3, rel=1e-4)
        assert (disc.volume_mm3 is not None) == truth.whole == (disc.cut_at == "")
        if not truth.whole:
            continue
        line = np.polyfit(
            [0.8, 0.0, -0.8], [truth.anterior_height_mm, truth.mid_height_mm, truth.posterior_height_mm], 2
        )
        for name, band in BANDS.items():
            gaps.append(disc.measures[name] - np.polyval(line, 1 - 2 * np.linspace(*band, 21)).mean())
        assert disc.measures["ap_width_mm"] == pytest.approx(truth.ap_width_mm - 0.8, abs=1.3)
        assert disc.measures["lateral_width_mm"] == pytest.approx(truth.lateral_width_mm - 0.7, abs=3.5)
    assert len(gaps) >= 21 and abs(np.mean(gaps)) < 0.15 and np.std(gaps) < 0.5


def test_slab_cut_at_both_sides_gives_all_but_volume_and_lateral_width():
    turn = rotation(10, 1) @ rotation(-31, 0)  # scoliosis and the slope of L5/S1
    shape = (13, 80, 80)  # 12 mm of a disc 48 mm wide
    labels = draw(lambda world: box(world, turn), canonical_affine((0.9, 0.94, 0.94), shape), shape)
    disc = only(labels)
    assert disc.cut_at == "left right"
    assert disc.volume_mm3 is None and disc.measures["lateral_width_mm"] is None
    for name in HEIGHTS:
        assert disc.measures[name] == pytest.approx(8, abs=0.3)
    assert disc.measures["tilt_deg"] == pytest.approx(-31, abs=1.0)
    assert disc.measures["wedge_angle_deg"] == pytest.approx(0, abs=1.0)
    assert disc.measures["ap_width_mm"] == pytest.approx(36, abs=1.0)
    assert disc.measures["volume_in_view_mm3"] == pytest.approx(labels.array.sum() * 0.9 * 0.94 * 0.94)


WHOLE = (70, 64, 64)
SECTION = {*HEIGHTS, "disc_height_index", "ap_width_mm", "wedge_angle_deg"}


def cut_disc(shape=oval, turn=STRAIGHT, **keep):
    """A disc on a grid of which only the given ranges of d, h or w are kept; the names of its empty measures too."""
    affine = canonical_affine((1.0, 1.0, 1.0), WHOLE)
    labels = draw(lambda world: shape(world, turn), affine, WHOLE).array
    box = tuple(keep.get(axis, slice(None)) for axis in "dhw")
    inner = affine.copy()
    inner[:3, 3] = to_world_mm(affine, np.array([side.start or 0 for side in box]))
    disc = only(LabelMap(labels[box], inner))
    empty = {name for name in SHAPE_MEASURES if disc.measures[name] is None}
    return disc, empty | ({"volume_mm3"} if disc.volume_mm3 is None else set())


@pytest.mark.parametrize(
    ("keep", "cut_at", "empty"),
    [
        ({}, "", set()),
        # 5 mm of 50 gone at one side; what is left is wider than long.
        ({"d": slice(15, None)}, "right", {"volume_mm3", "lateral_width_mm"}),
        ({"d": slice(0, 55)}, "left", {"volume_mm3", "lateral_width_mm"}),
        # 22 of 50 gone: the middle may be out of view.
        ({"d": slice(32, None)}, "right", {"volume_mm3", "lateral_width_mm", *SECTION}),
        # 6 mm of 36 gone in front or behind: the widest part is in the middle, and in view.
        ({"w": slice(20, None)}, "front", {"volume_mm3", "tilt_deg", *SECTION}),
        ({"w": slice(0, 44)}, "back", {"volume_mm3", "tilt_deg", *SECTION}),
        # 22 mm gone: the widest part in view lies at the cut.
        ({"w": slice(36, None)}, "front", {"volume_mm3", "tilt_deg", "lateral_width_mm", *SECTION}),
        ({"h": slice(30, None)}, "top", {"volume_mm3", "tilt_deg", "lateral_width_mm", *SECTION}),
        ({"h": slice(0, 34)}, "bottom", {"volume_mm3", "tilt_deg", "lateral_width_mm", *SECTION}),
    ],
)  # fmt: skip
def test_a_cut_empties_what_it_affects_and_nothing_else(keep, cut_at, empty):
    disc, found = cut_disc(**keep)
    assert disc.cut_at == cut_at and found == empty
    whole, _ = cut_disc()
    for name, error in {"middle_height_mm": 0.3, "ap_width_mm": 1.0, "lateral_width_mm": 0.5, "tilt_deg": 1.5}.items():
        if name not in empty:
            assert disc.measures[name] == pytest.approx(whole.measures[name], abs=error)


def test_a_slab_is_taken_to_lie_about_the_middle_though_the_outline_ends_a_slice_early():
    shape = (13, 64, 64)
    labels = draw(oval, canonical_affine((1.0, 1.0, 1.0), shape), shape)
    labels.array[-1] = 0
    disc = only(labels)
    assert disc.cut_at == "right"
    assert disc.measures["ap_width_mm"] == pytest.approx(36, abs=1.0)
    assert disc.measures["middle_height_mm"] == pytest.approx(9, abs=0.3)


def test_a_cut_at_the_top_beside_the_middle_leaves_what_is_measured_there():
    turn = rotation(25, 1)  # turned sideways: an edge is 10 mm above the centre
    disc, empty = cut_disc(box, turn, h=slice(23, None))
    assert disc.cut_at == "top" and empty == {"volume_mm3", "lateral_width_mm"}
    for name in HEIGHTS:
        assert disc.measures[name] == pytest.approx(8, abs=0.5)
    assert disc.measures["ap_width_mm"] == pytest.approx(36, abs=0.5)


def test_single_slice_still_has_heights():
    shape = (1, 64, 64)
    disc = only(draw(box, canonical_affine((4.0, 1.0, 1.0), shape), shape))
    assert disc.measures["middle_height_mm"] == pytest.approx(8, abs=0.01)
    assert disc.measures["lateral_width_mm"] is None and disc.cut_at == "left right"


def test_a_level_without_confidence():
    labels = np.zeros((20, 30, 30), np.uint8)
    labels[5:15, 10:14, 5:25], labels[5:15, 20:24, 5:25] = 3, 2
    low, high = measure_discs(LabelMap(labels, canonical_affine(shape=labels.shape)), None, {3: 0.6}, {3: 0.88})
    assert (low.level, low.level_confidence, low.outline_confidence) == (2, 0.0, None)
    assert (high.level, high.level_confidence, high.outline_confidence) == (3, 0.6, 0.88)


def test_slivers_are_measured_without_complaint():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4, 4, 4] = 1
    disc = only(LabelMap(labels, canonical_affine((2.0, 1.0, 1.0), labels.shape)))
    assert disc.volume_mm3 == pytest.approx(2.0)
    assert disc.measures["ap_width_mm"] == pytest.approx(1.0, abs=0.3)


def test_signal_per_channel_and_fat_fraction_by_hand():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    channels = np.zeros((2, 4, 6, 6), np.float32)
    channels[0], channels[1] = 30, 90
    channels[0][1, 2, 2] = 110  # one of eight voxels: mean 40, median 30
    affine = canonical_affine(shape=labels.shape)
    disc = only(LabelMap(labels, affine), Volume(channels, affine, ("fat", "wat")))
    assert disc.measures["fat_mean"] == pytest.approx(40)
    assert disc.measures["fat_median"] == pytest.approx(30)
    assert disc.measures["fat_sd"] == pytest.approx(np.sqrt((7 * 10**2 + 70**2) / 8))
    assert disc.measures["wat_mean"] == pytest.approx(90) and disc.measures["wat_sd"] == 0
    assert disc.measures["fat_fraction"] == pytest.approx(40 / 130)


def test_fat_fraction_needs_both_channels_and_signal():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    affine = canonical_affine(shape=labels.shape)
    one = only(LabelMap(labels, affine), Volume(np.ones((1, 4, 6, 6)), affine, ("fat",)))
    dark = only(LabelMap(labels, affine), Volume(np.zeros((2, 4, 6, 6)), affine, ("fat", "wat")))
    assert one.measures["fat_fraction"] is None and dark.measures["fat_fraction"] is None


def test_voxels_that_are_no_number_are_left_out():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    array = np.full((1, 4, 6, 6), np.nan)
    affine = canonical_affine(shape=labels.shape)
    assert only(LabelMap(labels, affine), Volume(array, affine, ("t2",))).measures["t2_sd"] is None
    array[0, 1, 2, 2] = 5
    assert only(LabelMap(labels, affine), Volume(array, affine, ("t2",))).measures["t2_mean"] == 5


def test_volume_on_another_grid_is_refused():
    affine = canonical_affine(shape=(4, 6, 6))
    labels = LabelMap(np.ones((4, 6, 6), np.uint8), affine)
    with pytest.raises(ValueError, match="labels' grid"):
        measure_discs(labels, Volume(np.ones((1, 4, 6, 7)), affine, ("t2",)), {})


def test_empty_map_gives_no_disc_and_an_empty_mask_no_frame():
    assert measure_discs(LabelMap(np.zeros((4, 6, 6), np.uint8), canonical_affine(shape=(4, 6, 6))), None, {}) == []
    with pytest.raises(ValueError, match="at least one voxel"):
        fit_axes(np.zeros((0, 3)), np.eye(4), whole=True)

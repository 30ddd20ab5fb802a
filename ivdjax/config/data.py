"""The sections of the configuration on cases: which there are, how they are prepared, and how varied in training."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Which cases are read, and which of them train.

    Attributes:
        root: dataset folder (`<root>/<case>/<case>_<channel>.nii.gz`); empty where phantoms are made.
        channels: channel names in the order in which the network sees them.
        made_from: the channel of the cases in `root` from which Dixon channels (fat, inn, opp, wat) are synthesised in
            training, if there are no real ones; empty: the cases have `channels` themselves.
        subject_pattern: regular expression whose first group, searched in a case's name, is its subject; empty: every
            case is a subject of its own.
        subject_table: CSV with the columns case and subject, and fold where folds are given, in place of the pattern.
        validation: case names held out from training (with every other case of the same subject).
        folds: number of folds, split by subject, for `train --fold K` and `cross-validate`; 0: none.
        phantom_cases: number of synthetic cases to make in the run's folder; beside a `root` they are used for training
            only.
        phantom_seed: seed of those cases.
        phantom_visits: number of cases of each synthetic subject.
        phantom_shape: voxels (D, H, W) of those cases; empty: the phantom's own.
        phantom_spacing_mm: voxel size (D, H, W) of those cases; empty: the phantom's own.
        phantom_fields: fields of view of those cases in turn (full, slab, clinical); empty: full.
        phantom_hard: hard kinds of those cases in turn, "" for an ordinary one; empty: all ordinary.
        cache: folder for prepared cases, with which a training also runs without the images; empty: the run's folder.
        all_discs_outlined: whether every visible disc has a label. If not, voxels more than 5 mm above the top
            outlined disc are left out of the loss of the region and disc stages.
        credit: who made the training data; kept in the model.
        licence: licence of the training data; kept in the model.
        limits: sentences on what the model was not trained for; kept in the model.
        synthetic: whether the training data are phantoms; kept in the model and shown with its results.
        paper_figures: whether the data are IVDM3Seg's public sets, so that a cross-validation's tables show the figures
            of the paper beside its own.
    """

    root: str = ""
    channels: tuple[str, ...] = ("t2",)
    made_from: str = ""
    subject_pattern: str = ""
    subject_table: str = ""
    validation: tuple[str, ...] = ()
    folds: int = 0
    phantom_cases: int = 0
    phantom_seed: int = 0
    phantom_visits: int = 1
    phantom_shape: tuple[int, ...] = ()
    phantom_spacing_mm: tuple[float, ...] = ()
    phantom_fields: tuple[str, ...] = ()
    phantom_hard: tuple[str, ...] = ()
    cache: str = ""
    all_discs_outlined: bool = False
    credit: str = ""
    licence: str = ""
    limits: tuple[str, ...] = ()
    synthetic: bool = False
    paper_figures: bool = False


@dataclass(frozen=True)
class PreparationConfig:
    """The working grid and the intensity normalisation; the same for training and inference.

    Attributes:
        spacing_mm: in-plane spacing (H, W) of the working grid.
        max_slice_mm: sagittal slices up to this thickness stay as acquired; thicker ones, and axial or coronal
            acquisitions, are resampled to `reformat_slice_mm`.
        reformat_slice_mm: slice thickness after reformatting.
        percentiles: percentiles of the intensities of tissue that become 0 and 1, per channel.
    """

    spacing_mm: tuple[float, float] = (1.25, 1.25)
    max_slice_mm: float = 5.5
    reformat_slice_mm: float = 2.0
    percentiles: tuple[float, float] = (0.5, 99.5)


@dataclass(frozen=True)
class AugmentationConfig:
    """Random changes of a training sample, drawn inside the compiled step (paper, section 3.1).

    Attributes:
        rotation_deg: largest rotation in the sagittal plane; a third of it about the two other axes.
        scale: factors (smallest, largest) of size.
        elastic_mm: standard deviation of the displacement at the control points of the 3D deformation.
        elastic_step_mm: distance between those control points.
        bend_deg: standard deviation of a turn in the sagittal plane that changes along the spine, where levels are
            learned, so that a disc's slope alone does not give away its level.
        noise: largest standard deviation of the Gaussian noise, on intensities of 0 to 1.
        gamma: exponents (smallest, largest), drawn on a logarithmic scale.
        remap: strength, 0 to 1, of a random monotone or non-monotone remapping of intensities.
        remap_probability: how often a sample is remapped.
        bias: largest relative change of a smooth multiplicative field over the crop.
        blur: largest standard deviation, in voxels, of a blur along rows and along columns that imitates coarser scans.
        channel_dropout: probability with which each channel is blanked; at least one always stays.
        redistribution: probability that each class of tissue grows brighter or darker against the others.
        new_means: probability that each class gets a new random brightness, while its texture is kept.
        inversion: probability that bright and dark are exchanged.
        equalization: probability of a histogram equalization.
        random_convolution: probability that the mean of the image and its convolution with a random kernel is taken.
        edges: probability that an edge filter is mixed in by half, or that the image is sharpened.
        slice_mm: largest thickness of the slice that a 2D box is averaged over; 0: slices stay as acquired.
        slice_probability: how often that is done.
        cut: largest shares of a volume's height and depth that are cut from the field of view above, below, in front
            and behind.
        cut_probability: how often each of the four sides is cut.
        overhang: share of its sides by which a box may extend beyond the volume in plane, so that the body may lie
            anywhere in it. Inference then looks for levels with half as much air around the image.
        calm: factor on all probabilities of changes of contrast and of thick slices, on blur and on noise, once a
            stage has done `training.calm_after` steps.
    """

    rotation_deg: float = 15.0
    scale: tuple[float, float] = (0.85, 1.2)
    elastic_mm: float = 2.0
    elastic_step_mm: float = 32.0
    bend_deg: float = 0.0
    noise: float = 0.05
    gamma: tuple[float, float] = (0.7, 1.4)
    remap: float = 0.0
    remap_probability: float = 0.5
    bias: float = 0.2
    blur: float = 0.0
    channel_dropout: float = 0.0
    redistribution: float = 0.0
    new_means: float = 0.0
    inversion: float = 0.0
    equalization: float = 0.0
    random_convolution: float = 0.0
    edges: float = 0.0
    slice_mm: float = 0.0
    slice_probability: float = 0.5
    cut: tuple[float, float, float, float] = (0.5, 0.35, 0.3, 0.25)
    cut_probability: float = 0.0
    overhang: float = 0.0
    calm: float = 0.4

"""Registration of blurred masks by their intensities (SimpleITK): the last millimetres of a similarity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.similarity_transforms import Matrix, scale_and_rotation
from ivdjax.volume import FloatArray, Grid, to_world_mm

_ARM_MM = 80.0
"""From the middle of seven discs to their ends, about: how far a turn by 1 radian moves them."""


@dataclass(frozen=True, eq=False)
class Blurred:
    """A mask at several widths of blur.

    Attributes:
        grid: of all images.
        images: float32 (D, H, W) with a peak of 1, the most blurred first.
    """

    grid: Grid
    images: tuple[NDArray[np.float32], ...]


def refined(moving: Blurred, fixed: Blurred, start: Matrix, centre_mm: FloatArray, translation_only: bool) -> Matrix:
    """A similarity after a descent of the mean squared difference of two masks, coarse then fine.

    Args:
        moving: blurred mask that the matrix moves.
        fixed: blurred mask that it is compared with.
        start: (4, 4), from homogeneous RAS+ mm of the moving mask to those of the fixed one; also the answer where the
            two come to lie beside each other.
        centre_mm: (3,) in the fixed mask, about which it is turned and scaled.
        translation_only: whether nothing but a translation is sought.
    """
    import SimpleITK as sitk

    transform = _transform(np.linalg.inv(start), centre_mm, translation_only)
    for fixed_image, moving_image in zip(fixed.images, moving.images, strict=True):
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfWorkUnits(1)  # sums in one order: the same result on any number of cores
        method.SetMetricAsMeanSquares()
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=2.0, minStep=0.05, numberOfIterations=60, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-8
        )
        if not translation_only:  # turn, offset, scale
            method.SetOptimizerScales([_ARM_MM**2] * 3 + [1.0] * 3 + [_ARM_MM**2])
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(_image(fixed_image, fixed.grid), _image(moving_image, moving.grid))
        except RuntimeError:  # the images came to lie beside each other: the start is the better answer
            return start
    origin, *axes = (
        np.array(transform.TransformPoint(p)) for p in ((0.0, 0, 0), (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))
    )
    inverse = np.eye(4)
    inverse[:3, :3], inverse[:3, 3] = np.stack(axes, axis=1) - origin[:, None], origin
    return np.asarray(np.linalg.inv(inverse), dtype=np.float64)


def _transform(inverse: FloatArray, centre_mm: FloatArray, translation_only: bool) -> Any:
    """The SimpleITK transform from fixed to moving points that a matrix (4, 4) describes, or its translation alone."""
    import SimpleITK as sitk

    if translation_only:
        return sitk.TranslationTransform(3, inverse[:3, 3].tolist())
    scale, rotation = scale_and_rotation(inverse)
    turn = rotation.as_rotvec()
    angle = float(np.linalg.norm(turn))
    transform = sitk.Similarity3DTransform()
    transform.SetCenter(centre_mm.tolist())
    transform.SetRotation((turn / angle if angle > 0 else np.array([0.0, 0.0, 1.0])).tolist(), angle)
    transform.SetScale(scale)
    transform.SetTranslation((to_world_mm(inverse, centre_mm) - centre_mm).tolist())
    return transform


def _image(values: NDArray[np.float32], grid: Grid) -> Any:
    """A SimpleITK image whose physical points are RAS+ mm; its index runs (w, h, d)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    spacing = np.array(grid.spacing_mm)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((grid.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image

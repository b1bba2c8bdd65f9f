"""Difference operators of the regularizers, as plain NumPy.

These define what the kernels compute. Images are ``(..., R, C)``; a vector field is
``(..., 2, R, C)`` with the component along columns (x) first, and a field of symmetric
2 x 2 matrices is ``(..., 3, R, C)`` with components xx, yy and sqrt(2) xy, so that its
2-norm is the Frobenius norm.
"""

import numpy as np

__all__ = [
    "adjoint_gradient",
    "adjoint_symmetrized_gradient",
    "gradient",
    "remove_guided",
    "symmetrized_gradient",
]

SQRT_HALF = np.sqrt(0.5)


def gradient(image):
    """Forward differences, zero across the border.

    Parameters
    ----------
    image : (..., R, C) array

    Returns
    -------
    (..., 2, R, C) array
    """
    field = np.zeros(image.shape[:-2] + (2,) + image.shape[-2:], image.dtype)
    np.subtract(image[..., :, 1:], image[..., :, :-1], out=field[..., 0, :, :-1])
    np.subtract(image[..., 1:, :], image[..., :-1, :], out=field[..., 1, :-1, :])
    return field


def adjoint_gradient(field):
    """Adjoint of `gradient`: minus the divergence."""
    columns, rows = field[..., 0, :, :], field[..., 1, :, :]
    image = np.zeros(columns.shape, field.dtype)
    image[..., :, :-1] -= columns[..., :, :-1]
    image[..., :, 1:] += columns[..., :, :-1]
    image[..., :-1, :] -= rows[..., :-1, :]
    image[..., 1:, :] += rows[..., :-1, :]
    return image


def symmetrized_gradient(field):
    """Symmetrized backward differences of a field defined where `gradient` is.

    The component along columns has no meaning in the last column, nor the one along rows
    in the last row; no difference reaches there or across a border, so that constant
    fields, the gradients of affine images, give exactly zero.

    Parameters
    ----------
    field : (..., 2, R, C) array

    Returns
    -------
    (..., 3, R, C) array
    """
    columns, rows = field[..., 0, :, :], field[..., 1, :, :]
    matrix = np.zeros(field.shape[:-3] + (3,) + field.shape[-2:], field.dtype)
    matrix[..., 0, :, 1:-1] = columns[..., :, 1:-1] - columns[..., :, :-2]
    matrix[..., 1, 1:-1, :] = rows[..., 1:-1, :] - rows[..., :-2, :]
    matrix[..., 2, 1:, :-1] += SQRT_HALF * (columns[..., 1:, :-1] - columns[..., :-1, :-1])
    matrix[..., 2, :-1, 1:] += SQRT_HALF * (rows[..., :-1, 1:] - rows[..., :-1, :-1])
    return matrix


def adjoint_symmetrized_gradient(matrix):
    """Adjoint of `symmetrized_gradient`."""
    xx, yy, xy = (matrix[..., k, :, :] for k in range(3))
    field = np.zeros(matrix.shape[:-3] + (2,) + matrix.shape[-2:], matrix.dtype)
    field[..., 0, :, 1:-1] += xx[..., :, 1:-1]
    field[..., 0, :, :-2] -= xx[..., :, 1:-1]
    field[..., 1, 1:-1, :] += yy[..., 1:-1, :]
    field[..., 1, :-2, :] -= yy[..., 1:-1, :]
    field[..., 0, 1:, :-1] += SQRT_HALF * xy[..., 1:, :-1]
    field[..., 0, :-1, :-1] -= SQRT_HALF * xy[..., 1:, :-1]
    field[..., 1, :-1, 1:] += SQRT_HALF * xy[..., :-1, 1:]
    field[..., 1, :-1, :-1] -= SQRT_HALF * xy[..., :-1, 1:]
    return field


def remove_guided(field, guide):
    """Apply D = I - a a' at every pixel, with ``guide`` a (2, R, C), or None for D = I."""
    if guide is None:
        return field
    along = field[..., 0, :, :] * guide[0] + field[..., 1, :, :] * guide[1]
    return field - along[..., None, :, :] * guide

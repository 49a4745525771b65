"""Live traffic of the demonstration: what a worn camera makes of clean digits."""

import numpy as np
from numpy.typing import NDArray

NOISE = 0.2
"""Standard deviation of the added noise, where 1.0 is the range of a pixel."""
SHIFTS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
"""Where an image may move, in pixels (down, right)."""


def drifted(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Shift every image by one pixel up, down, left or right, and add noise.

    Args:
        images: Pixels between 0 and 1, shape [N, 1, H, W].
        rng: Where the directions and the noise come from; the same state gives
            the same traffic.

    Returns:
        New images of the same shape, clipped to between 0 and 1. What is shifted
        in is black (0).
    """
    height, width = images.shape[2:]
    framed = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moves = rng.integers(len(SHIFTS), size=len(images))
    moved = np.empty(images.shape, np.float32)
    for index, (down, right) in enumerate(SHIFTS):
        view = framed[:, :, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        moved[moves == index] = view[moves == index]
    noisy = moved + rng.normal(0, NOISE, images.shape)
    return np.clip(noisy, 0, 1).astype(np.float32)

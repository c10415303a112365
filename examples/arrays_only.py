"""The ops on plain arrays, without layers and gradients: edges of a picture, at several scales at once.

python examples/arrays_only.py
"""

from __future__ import annotations

import numpy as np

import numbacnn as nc


def main() -> np.ndarray:
    """Edge strength (channels, height, width) of a disc, one channel per scale."""
    y, x = np.mgrid[-1:1:200j, -1:1:300j]
    picture = (x**2 + y**2 < 0.5).astype(np.float32)[None, None]

    # Blurred by a Gaussian per channel: the picture repeated, one 21-tap filter for each copy, rows and then columns.
    taps = np.arange(-10, 11)
    scales = np.array([1.0, 2.0, 4.0])
    filters = np.exp(-0.5 * (taps / scales[:, None]) ** 2)
    filters = (filters / filters.sum(axis=1, keepdims=True)).astype(np.float32)
    blurred = np.repeat(picture, len(scales), axis=1)
    for kernel in (filters[:, None, :, None], filters[:, None, None, :]):
        blurred = nc.ops.conv_forward(blurred, kernel, padding="same", padding_mode="replicate", groups=len(scales))

    # Differences between neighbours in both directions: two outputs for each channel.
    slope = np.array([[-0.5, 0.0, 0.5]], np.float32)
    horizontal, vertical = (
        nc.ops.conv_forward(
            blurred,
            np.broadcast_to(kernel, (len(scales), 1, *kernel.shape)),
            padding="same",
            padding_mode="replicate",
            groups=len(scales),
        )
        for kernel in (slope, slope.T)
    )
    edges = np.hypot(horizontal, vertical)[0]
    for scale, channel in zip(scales, edges, strict=True):
        print(
            f"scale {scale:g}: strongest edge {channel.max():.3f}, {np.mean(channel > 0.01):.1%} of the pixels near one"
        )
    return edges


if __name__ == "__main__":
    main()

"""Surface normals from depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["NYUV2_CAMERA", "Pinhole", "normals_from_depth"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pinhole:
    """A camera: pixel (row i, column j) looks along ((j - cx) / fx, (i - cy) / fy, 1).

    Attributes:
        fx: focal length in pixels, across.
        fy: focal length in pixels, down.
        cx: column of the optical axis, the first column being 0.
        cy: row of the optical axis, the first row being 0.
    """

    fx: float
    fy: float
    cx: float
    cy: float

    def cropped(self, top: float, left: float) -> Pinhole:
        """The camera of the part of the picture that begins at this row and column.

        Examples:
            >>> Pinhole(500, 500, 320, 240).cropped(top=40, left=20)
            Pinhole(fx=500, fy=500, cx=300, cy=200)
        """
        return Pinhole(self.fx, self.fy, self.cx - left, self.cy - top)

    def scaled(self, rows: float, columns: float) -> Pinhole:
        """The camera of the picture resized by these factors.

        Examples:
            >>> Pinhole(500, 500, 319.5, 239.5).scaled(0.5, 0.5)
            Pinhole(fx=250.0, fy=250.0, cx=159.5, cy=119.5)
        """
        return Pinhole(self.fx * columns, self.fy * rows, (self.cx + 0.5) * columns - 0.5, (self.cy + 0.5) * rows - 0.5)


# camera_params.m of the NYUv2 toolbox, whose back-projection counts rows and columns from 1.
NYUV2_CAMERA = Pinhole(
    fx=518.85790117450188, fy=519.46961112127485, cx=325.58244941119034 - 1, cy=253.73616633400465 - 1
)
"""The colour camera of NYUv2, to which the depth of the labelled frames is aligned; 480 rows, 640 columns."""


def normals_from_depth(
    depth: NDArray[np.floating], camera: Pinhole, *, radius: int = 5, edge: float = 0.05
) -> NDArray[np.float32]:
    """The normal of a plane fitted to the neighbourhood of every pixel.

    On a plane 1/z is a linear function of row and column, and a depth camera that triangulates, as the Kinect does, has
    the same noise in 1/z everywhere. So 1/z is fitted by least squares over a square window, to the pixels whose 1/z
    is near that of the middle one, and the coefficients are the normal: 1/z = a x + b y + c, with x and y the
    directions of :class:`Pinhole`, is the plane a X + b Y + c Z = 1.

    The published NYUv2 normals were made by another method (Ladický et al., 2014, as Eigen and Fergus, 2015, took
    them), so that figures on them differ.

    Args:
        depth: (H, W) metres along the optical axis, 0 where not measured.
        camera: of this picture.
        radius: the window has 2 radius + 1 rows and columns.
        edge: pixels whose 1/z differs by more than this share from the middle one's lie on another surface.

    Returns:
        (H, W, 3) unit vectors in camera axes, x right, y down, z forward, that face the camera: a floor seen by a level
        camera has (0, -1, 0). All zero where the depth is 0, or where less than a quarter of the window was left to
        fit.

    Raises:
        ValueError: If the depth is not (H, W), or has a value that is negative or not finite.

    Examples:
        >>> wall = np.full((20, 30), 2.0)
        >>> normals_from_depth(wall, Pinhole(30, 30, 14.5, 9.5))[10, 15] + 0.0
        array([ 0.,  0., -1.], dtype=float32)
    """
    if depth.ndim != 2 or not (np.isfinite(depth).all() and (depth >= 0).all()):
        raise ValueError(
            f"Parameter `depth` should be (H, W), finite and at least 0. Found shape {depth.shape}, "
            f"values from {np.min(depth):g} to {np.max(depth):g}."
        )
    valid = depth > 0
    inverse = np.zeros(depth.shape)
    inverse[valid] = 1 / depth[valid].astype(np.float64)
    across, down, middle, fitted = _fit(inverse, radius, edge)
    rows, columns = np.indices(depth.shape, dtype=np.float64)
    a, b = across * camera.fx, down * camera.fy
    c = middle + across * (camera.cx - columns) + down * (camera.cy - rows)
    normals = -np.stack([a, b, c], axis=-1)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    fitted &= valid & (length[..., 0] > 0) & (middle > 0)
    normals = np.divide(normals, length, out=np.zeros_like(normals), where=fitted[..., None])
    return np.asarray(normals, np.float32)


def _fit(inverse: Floats, radius: int, edge: float) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Slope a column, slope a row and value in the middle of the least-squares plane around every pixel, and whether
    there was enough to fit.
    """
    height, width = inverse.shape
    padded = np.pad(inverse, radius)
    sums = {name: np.zeros(inverse.shape) for name in ("1", "x", "y", "xx", "xy", "yy", "w", "xw", "yw")}
    tolerance = edge * inverse
    for y in range(-radius, radius + 1):
        # Sums over one row of the window first: they need x alone.
        row = {name: np.zeros(inverse.shape) for name in ("1", "x", "xx", "w", "xw")}
        for x in range(-radius, radius + 1):
            # A pixel without a measurement has 1/z = 0, which is near no other's.
            w = padded[radius + y : radius + y + height, radius + x : radius + x + width] - inverse
            near = np.abs(w) <= tolerance
            w *= near
            row["1"] += near
            row["w"] += w
            if x:
                row["x"] += x * near
                row["xx"] += x * x * near
                row["xw"] += x * w
        for name, factor, of in (("1", 1, "1"), ("x", 1, "x"), ("xx", 1, "xx"), ("w", 1, "w"), ("xw", 1, "xw"),
                                 ("y", y, "1"), ("yy", y * y, "1"), ("xy", y, "x"), ("yw", y, "w")):  # fmt: skip
            sums[name] += factor * row[of]
    return _solve(sums, inverse, least=(2 * radius + 1) ** 2 / 4)


def _solve(sums: dict[str, Floats], inverse: Floats, least: float) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """The normal equations, centred, by Cramer's rule."""
    count = np.maximum(sums["1"], 1)
    x, y, w = sums["x"] / count, sums["y"] / count, sums["w"] / count
    xx, xy, yy = sums["xx"] / count - x * x, sums["xy"] / count - x * y, sums["yy"] / count - y * y
    xw, yw = sums["xw"] / count - x * w, sums["yw"] / count - y * w
    determinant = xx * yy - xy * xy
    # A line of pixels fixes no plane; a quarter of a window of 3 x 3 can be one.
    fitted = (sums["1"] >= least) & (determinant > 1e-6)
    safe = np.where(fitted, determinant, 1)
    across, down = (yy * xw - xy * yw) / safe, (xx * yw - xy * xw) / safe
    return across, down, inverse + w - across * x - down * y, fitted

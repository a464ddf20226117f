"""networks/inr_edit_styles.py: what styles of editing do to a picture: fixed operators on pixels. Torch; no network, no file.

Pictures are (n, channels, height, width) with black 0 and white 1; values beyond are left as they are where the operator allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

Operator = Callable[[Tensor], Tensor]

CONTRAST = 1.5


def dilate(picture: Tensor) -> Tensor:
    """Each pixel becomes the largest of the 3 × 3 pixels around it, channel by channel (`cv2.dilate` with ones(3, 3))."""
    return functional.max_pool2d(picture, 3, 1, 1)


def erode(picture: Tensor) -> Tensor:
    """Each pixel becomes the least of the 3 × 3 pixels around it, channel by channel (`cv2.erode` with ones(3, 3))."""
    return -functional.max_pool2d(-picture, 3, 1, 1)


def contrast(picture: Tensor) -> Tensor:
    """Distances from the mean over all pixels and channels grow by half; what leaves black to white is cut off."""
    mean = picture.mean((1, 2, 3), keepdim=True)
    return torch.clamp(mean + CONTRAST * (picture - mean), 0.0, 1.0)


STYLES: Mapping[str, Operator] = MappingProxyType({"dilate": dilate, "erode": erode, "contrast": contrast})

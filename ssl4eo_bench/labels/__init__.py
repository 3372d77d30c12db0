"""The kinds of labels, one module each: targets, loss, metrics, and how a split is predicted and evaluated.

A new kind is one module here with a class below `Labels`, and one case in `labels_of`.
"""

from ssl4eo_bench.config.task import Kind
from ssl4eo_bench.labels.base import Labels
from ssl4eo_bench.labels.multiclass import Multiclass
from ssl4eo_bench.labels.multilabel import Multilabel


def labels_of(kind: Kind) -> Labels:
    """Return the labels of a kind."""
    match kind:
        case "multiclass":
            return Multiclass()
        case "multilabel":
            return Multilabel()
        case "segmentation":
            from ssl4eo_bench.labels.pixel_maps import PixelMaps  # imports timm: not where features are cached

            return PixelMaps()

"""A few test tiles with truth and prediction, for people to look at."""

from collections.abc import Sequence

import numpy as np

from ssl4eo_bench.config.task import Groups
from ssl4eo_bench.plan import Job

TILES_SHOWN = 4
COLOURS = ("B04", "B03", "B02"), ("VV", "VH", "VV")
"""The bands shown as red, green and blue: the first of these that the task has."""
PERCENTILES = (2, 98)
"""Of the pixels of a tile, shown as black and as full brightness of each band."""


class ExampleTiles:
    """Tiles spread evenly over the test split of a job, filled in as they are scored."""

    def __init__(self, job: Job) -> None:
        ids = job.samples["test"].ids
        places = np.linspace(0, len(ids) - 1, min(TILES_SHOWN, len(ids))).astype(int)
        self._job = job
        self._wanted = [ids[place] for place in places]
        self._maps: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def add(self, ids: Sequence[str], labels: np.ndarray, scores: np.ndarray) -> None:
        """Keep those of scored tiles: labels `[N, S, S]` and scores of the classes `[N, C, S, S]`."""
        for id_, truth, of_tile in zip(ids, labels, scores, strict=True):
            if id_ in self._wanted:
                self._maps[id_] = truth, of_tile.argmax(axis=0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return ids `[K]`, colour images `[K, H, W, 3]` uint8, truth and prediction `[K, S, S]` uint8."""
        truth, predicted = (np.stack([self._maps[id_][side] for id_ in self._wanted]) for side in (0, 1))
        return {
            "examples": np.array(self._wanted),
            "examples_rgb": np.stack([self._colours(id_) for id_ in self._wanted]),
            "examples_truth": truth.astype(np.uint8),
            "examples_predicted": predicted.astype(np.uint8),
        }

    def _colours(self, id_: str) -> np.ndarray:
        """Return the colour image of a tile, `[H, W, 3]` uint8."""
        known = {band.name for band in self._job.task.bands}
        bands = next(wanted for wanted in COLOURS if set(wanted) <= known)
        groups: Groups = self._job.samples["test"].reader.read([id_], bands)
        names = [name for group in self._job.task.groups(bands) for name in group]
        planes = dict(zip(names, [plane for group in groups for plane in group[0]], strict=True))
        image = np.stack([planes[band].astype(np.float32) for band in bands], axis=-1)
        image = np.where(np.isfinite(image), image, np.nan)
        low, high = np.nanpercentile(image, PERCENTILES, axis=(0, 1))
        stretched: np.ndarray = np.clip(np.nan_to_num((image - low) / np.maximum(high - low, 1e-6)), 0, 1)
        return (255 * stretched).astype(np.uint8)

"""Several sensors' images of the same samples, as one source."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from ssl4eo_bench.config.bands import Sensor, sensor_of
from ssl4eo_bench.config.task import Groups, PlacedSource, Source, SplitName


class CombinedSource:
    """A source made of one for each sensor, which all know a sample by the same id.

    Split lists, labels, place and date are those of the first sensor.
    """

    def __init__(self, sources: Mapping[Sensor, Source]) -> None:
        """Combine the sources of some sensors, in the order in which the task lists their bands."""
        self._sources = dict(sources)
        self._first = next(iter(self._sources.values()))

    def ids(self, split: SplitName) -> list[str]:
        """The ids that the split list names."""
        return self._first.ids(split)

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those that lack the files of a sensor."""
        absent = {id_ for source in self._sources.values() for id_ in source.absent(ids)}
        return [id_ for id_ in ids if id_ in absent]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Labels, as the task's kind wants them."""
        return self._first.targets(ids)

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> Groups:
        """Stored pixels of each sensor that has some of the bands, as its own source gives them."""
        of_sensor = {sensor: [band for band in bands if sensor_of(band) == sensor] for sensor in self._sources}
        return tuple(
            group for sensor, names in of_sensor.items() if names for group in self._sources[sensor].read(ids, names)
        )

    def place_and_date(self, ids: Sequence[str]) -> np.ndarray:
        """Longitude, latitude and days since 1970-01-01, `[N, 3]`, if the first source tells them."""
        return cast(PlacedSource, self._first).place_and_date(ids)

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of the fingerprints that the sources give."""
        stamps = "\n".join(source.fingerprint(ids) for source in self._sources.values())
        return hashlib.sha256(stamps.encode()).hexdigest()


def combined(sources: Mapping[Sensor, Source]) -> Source:
    """One source for all sensors: the only one there is, or a `CombinedSource`."""
    return CombinedSource(sources) if len(sources) > 1 else next(iter(sources.values()))

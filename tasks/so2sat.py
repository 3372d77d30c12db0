"""So2Sat LCZ42: 400,673 Sentinel-1 and Sentinel-2 patches of 32 × 32 pixels in 17 local climate zones.

Six tasks on two releases, whose numbers do not compare:

- `so2sat`, `so2sat-s1` and `so2sat-s1s2` (both sensors), version 2 of the data: train is 42 cities, val the west and
  test the east halves of ten other cities. Val and test share these cities, so choosing on val is optimistic for cities
  never seen.
- `so2sat-random`, `so2sat-block`, `so2sat-culture10`, version 3: every city 80/20 at random; every city 80/20 by
  place; 42 cities against ten others. Its `culture_10/training.h5` is version 2's `training.h5`, byte for byte.
  Version 3 has no validation file. Val is a tenth of the training file, never of the test file: the samples whose id
  has a sha256 that is a multiple of ten (`held_out`). These lie among the training samples.

What the files hold, and what is made of it:

- Samples have no names. The id is the file's and the number of the row: `training-000123`.
- Sentinel-2 is reflectance already. Dividing it by 10,000 once more gives black images, and copies multiplied by
  10,000 are around: every row that is read is checked, and one with values of ten or more is refused.
- Sentinel-1 is linear and holds VH before VV. VV and VH are the Lee-filtered intensities (channels 5 and 4) in
  decibel, 10 · log10(max(x, 1e-6)): the floor of −60 dB lies far below the sensor's noise, and stands for zero.
- Channels come last, and all values are 8-byte floats; what is read is float32. Values that are not finite stay so.

The counts of version 2 are official, so its ids are known whatever lies on disk: rows that a file lacks are absent
samples, and a longer file is refused. Of version 3, only the count of `culture_10/training.h5` is known.

Version 1: first version.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ssl4eo_bench.config.bands import Band, sensor_of
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.config.task import SPLITS, Sample, Source, Split, SplitName, Task, UnlistedSplit
from ssl4eo_bench.data.combined import combined
from ssl4eo_bench.data.hdf5 import Hdf5File, write_hdf5
from ssl4eo_bench.data.split_lists import held_out
from ssl4eo_bench.errors import DamagedFileError, MissingDataError, SplitError
from ssl4eo_bench.tasks._so2sat_scenes import optical, radar, zone
from ssl4eo_bench.tasks._ssl4eo_recipes import SO2SAT

CLASSES = (
    "Compact high rise",
    "Compact mid rise",
    "Compact low rise",
    "Open high rise",
    "Open mid rise",
    "Open low rise",
    "Lightweight low rise",
    "Large low rise",
    "Sparsely built",
    "Heavy industry",
    "Dense trees",
    "Scattered trees",
    "Bush, scrub",
    "Low plants",
    "Bare rock or paved",
    "Bare soil or sand",
    "Water",
)
SIZE = 32
FLOOR = 1e-6  # of Sentinel-1 intensities
REFLECTANCE_BELOW = 10.0  # the brightest roofs reach about 3; a copy in digital numbers lies at a thousand
INTENSITY_ABOVE = -1.0  # intensities are not negative; every scene of a copy in decibel goes far below


@dataclass(frozen=True)
class Sensor:
    """Where a sensor's bands are: the array's name, its number of channels, and the channel of each band."""

    array: str
    channels: int
    bands: dict[str, int]


OPTICAL = Sensor(
    array="sen2",
    channels=10,
    bands={name: at for at, name in enumerate(("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"))},
)
RADAR = Sensor(array="sen1", channels=8, bands={"VV": 5, "VH": 4})


ROW_BYTES = SIZE * SIZE * (OPTICAL.channels + RADAR.channels) * 8 + len(CLASSES) * 8


@dataclass(frozen=True)
class Release:
    """Files that belong together.

    Attributes:
        folder: where they lie below the dataset's folder and on the server, with a slash; empty for its root.
        share: of the server that has them; its name is the user's and the password.
        files: the file of each split.
        rows: the official number of rows of a file, where known.
        about_rows: what to expect of the others.
        counts: of the samples of each class in some splits, where known.
    """

    folder: str
    share: str
    page: str
    files: dict[SplitName, str]
    md5: dict[str, str]
    splits: dict[SplitName, Split | UnlistedSplit]
    rows: dict[str, int] = field(default_factory=dict)
    about_rows: dict[str, int] = field(default_factory=dict)
    counts: dict[tuple[SplitName, ...], tuple[int, ...]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """The server's folder."""
        return f"ftp://{self.share}:{self.share}@dataserv.ub.tum.de/{self.folder}"

    @property
    def how_to_get(self) -> str:
        """Where the files come from and where they go."""
        names = ", ".join(f"{name}.h5" for name in self.md5)
        return f"get {names} from {self.address} (see {self.page}) and put them into <data-dir>/so2sat/{self.folder}"

    def ids(self, split: SplitName, rows: int) -> list[str]:
        """The ids of a split whose file has this many rows."""
        file = self.files[split]
        ids = [f"{file}-{row:06d}" for row in range(rows)]
        if split == "test" or self.files["val"] != self.files["train"]:
            return ids
        return [id_ for id_ in ids if held_out(id_) == (split == "val")]

    def published(self) -> tuple[RemoteFile, ...]:
        """The files for downloads; the server speaks ftp behind a login, which is for people."""
        rows = self.rows | self.about_rows
        return tuple(
            RemoteFile(
                name=f"{self.folder}{file}.h5",
                md5=md5,
                about_bytes=rows[file] * ROW_BYTES,
                instructions=f"run `curl -C - -O {self.address}{file}.h5` in <data-dir>/so2sat/{self.folder}; the same "
                "command goes on where it was cut off.",
            )
            for file, md5 in self.md5.items()
        )


V2 = Release(
    folder="",
    share="m1483140",
    page="https://mediatum.ub.tum.de/1483140",
    files={"train": "training", "val": "validation", "test": "testing"},
    md5={
        "training": "702bc6a9368ebff4542d791e53469244",
        "validation": "71cfa6795de3e22207229d06d6f8775d",
        "testing": "e81426102b488623a723beab52b31a8a",
    },
    splits={
        "train": Split(count=352366, digest="b9f3cc57772ead619703c156579e0485fc0bc281b9f0abcc4b2021d08a01c3aa"),
        "val": Split(count=24119, digest="c5b10a016f64460b7e1cb49220b714bce82b50fc5cd80cb9c7a28def843fb67d"),
        "test": Split(count=24188, digest="8323668f95ce6ddb388ebe45ad2ee5fef9590e6d0808e39fbddc20f0e8a5a6d1"),
    },
    rows={"training": 352_366, "validation": 24_119, "testing": 24_188},
    counts={
        ("train",): (
            *(5068, 24431, 31693, 8651, 16493, 35290, 3269, 39326, 13584, 11954),
            *(42902, 9514, 9165, 41377, 2392, 7898, 49359),
        ),
        ("val",): (256, 1254, 2353, 849, 757, 1906, 474, 3395, 1914, 860, 2287, 382, 1202, 2747, 202, 672, 2609),
        ("test",): (266, 1262, 2465, 857, 763, 1936, 503, 3496, 2013, 908, 2368, 433, 1166, 2435, 205, 572, 2540),
    },
)
RANDOM = Release(
    folder="random/",
    share="m1613658",
    page="https://mediatum.ub.tum.de/1613658",
    files={"train": "training", "val": "training", "test": "testing"},
    md5={"training": "94e2e2e667b406c2adf61e113b42204e", "testing": "1e15c425585ce816342d1cd779d453d8"},
    splits={split: UnlistedSplit() for split in SPLITS},
    about_rows={"training": 320_538, "testing": 80_135},  # of 400,673
)
BLOCK = replace(
    RANDOM,
    folder="block/",
    md5={"training": "a91d6150e8b059dac86105853f377a11", "testing": "6414af1ec33ace417e879f9c88066d47"},
)
CULTURE_10 = replace(
    RANDOM,
    folder="culture_10/",
    md5={"training": V2.md5["training"], "testing": "58335ce34ca3a18424e19da84f2832fc"},
    splits={
        "train": Split(count=316952, digest="2bb7bcc4c1394f36afa7b6fab168f765787750faa78e6d9ebbcdf16d4e7a50df"),
        "val": Split(count=35414, digest="668fe306ccb48fdfc9adbbdd3df11b4e2504d9f7e088e06dda5f8a9a052e111d"),
        "test": UnlistedSplit(),
    },
    rows={"training": V2.rows["training"]},
    about_rows={"testing": V2.rows["validation"] + V2.rows["testing"]},
    counts={("train", "val"): V2.counts["train",]},
)


class So2Sat:
    """One sensor in the files of one release, opened for reading."""

    def __init__(self, files: dict[str, Hdf5File], release: Release, sensor: Sensor) -> None:
        self._files = files
        self._release = release
        self._sensor = sensor

    def ids(self, split: SplitName) -> list[str]:
        """The official ids where the official count is known, else those of the rows that are there."""
        name = self._release.files[split]
        file = self._files[name]
        there = _length(file)
        official = there if file.attribute(SAMPLE_MARK) else self._release.rows.get(name, there)
        return self._release.ids(split, official)

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those beyond the end of their file."""
        lengths = {name: _length(file) for name, file in self._files.items()}
        places = map(_place, ids)
        return [id_ for id_, (name, row) in zip(ids, places, strict=True) if row >= lengths[name]]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Class numbers `[N]`."""
        targets = np.empty(len(ids), dtype=np.int64)
        for file, at, rows in self._by_file(ids):
            # In one piece, also for the one row in ten that val is: labels are small.
            labels = file.rows("label", np.arange(rows.min(), rows.max() + 1))[rows - rows.min()]
            _require_one_hot(labels, file, rows)
            targets[at] = labels.argmax(axis=1)
        return targets

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Pixels `[N, C, 32, 32]` float32: reflectance, or decibel of the Lee-filtered intensities."""
        channels = [channel for band, channel in self._sensor.bands.items() if band in bands]
        pixels = np.empty((len(ids), len(channels), SIZE, SIZE), dtype=np.float32)
        for file, at, rows in self._by_file(ids):
            stored = file.rows(self._sensor.array, rows)
            with np.errstate(over="ignore"):  # of values beyond float32, which become infinite
                for position, channel in enumerate(channels):
                    pixels[at, position] = stored[..., channel]
            self._require_levels(pixels[at], file, rows)
        return (decibel(pixels) if self._sensor == RADAR else pixels,)

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of these ids and of their files' size, time of last change, first and last 64 KiB."""
        names = sorted({_place(id_)[0] for id_ in ids})
        lines = [*(f"{name}:{self._files[name].stamp()}" for name in names), *ids]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _require_levels(self, pixels: np.ndarray, file: Hdf5File, rows: np.ndarray) -> None:
        """Refuse copies in other units, by the finite values of each row."""
        finite, each = np.isfinite(pixels), (1, 2, 3)
        if self._sensor == OPTICAL:
            highest = pixels.max(axis=each, where=finite, initial=-np.inf)
            row = int(highest.argmax())
            if highest[row] < REFLECTANCE_BELOW:
                return
            raise DamagedFileError(
                f"{file.path} has values up to {highest[row]:,.0f} in row {rows[row]} of {self._sensor.array!r}, but "
                f"reflectance stays below {REFLECTANCE_BELOW:.0f}: this is a copy multiplied by 10,000; use the "
                "official file."
            )
        lowest = pixels.min(axis=each, where=finite, initial=np.inf)
        row = int(lowest.argmin())
        if lowest[row] <= INTENSITY_ABOVE:
            raise DamagedFileError(
                f"{file.path} has values down to {lowest[row]:.1f} in row {rows[row]} of {self._sensor.array!r}, but "
                "intensities are not negative: this is a copy in decibel, or with other channels; use the official "
                "file."
            )

    def _by_file(self, ids: Sequence[str]) -> Iterator[tuple[Hdf5File, np.ndarray, np.ndarray]]:
        """Each file that ids are in, with their positions in `ids` and their rows in the file."""
        places = [_place(id_) for id_ in ids]
        for name in dict.fromkeys(name for name, _ in places):
            at = [position for position, (other, _) in enumerate(places) if other == name]
            yield self._files[name], np.array(at), np.array([places[position][1] for position in at])


def decibel(intensities: np.ndarray) -> np.ndarray:
    """10 · log10 of linear intensities, float32, not below −60; what is not finite stays as it is."""
    levels: np.ndarray = 10 * np.log10(np.maximum(intensities, np.float32(FLOOR)))
    levels[np.isneginf(intensities)] = -np.inf
    return levels


def _place(id_: str) -> tuple[str, int]:
    """File and row."""
    name, _, row = id_.rpartition("-")
    return name, int(row)


def _length(file: Hdf5File) -> int:
    return file.shape("label")[0]


def _require_one_hot(labels: np.ndarray, file: Hdf5File, rows: np.ndarray) -> None:
    sums = labels.sum(axis=1, dtype=np.float64)
    good = (sums == 1) & (np.count_nonzero(labels, axis=1) == 1)
    if not good.all():
        worst = int(good.argmin())
        raise DamagedFileError(
            f"{file.path} has labels of sum {sums[worst]:g} in row {rows[worst]}, but every row has a single one among "
            f"{len(CLASSES)} classes in the official file; fetch it again."
        )


def open_so2sat(data_dir: Path, *, release: Release, sensors: Sequence[Sensor]) -> Source:
    """So2Sat below a data directory: `<data-dir>/so2sat`, or the directory itself."""
    root = data_dir / "so2sat" if (data_dir / "so2sat").is_dir() else data_dir
    files = {name: Hdf5File(root / f"{release.folder}{name}.h5") for name in release.md5}
    if gone := [str(file.path) for file in files.values() if not file.path.is_file()]:
        verb = "is" if len(gone) == 1 else "are"
        raise MissingDataError(f"{', '.join(gone)} {verb} not there; {release.how_to_get}.")
    for name, file in files.items():
        for sensor in sensors:
            _require_layout(file, sensor)
        rows, official = _length(file), release.rows.get(name)
        if official is not None and rows > official:
            raise SplitError(
                f"{file.path} has {rows:,} rows, but the official file has {official:,}: this is a file of another "
                f"release; {release.how_to_get}."
            )
    return combined({sensor_of(next(iter(sensor.bands))): So2Sat(files, release, sensor) for sensor in sensors})


def _require_layout(file: Hdf5File, sensor: Sensor) -> None:
    rows = _length(file)
    for array, shape in ((sensor.array, (SIZE, SIZE, sensor.channels)), ("label", (len(CLASSES),))):
        found = file.shape(array)
        if found != (rows, *shape) or not rows:
            expected = ", ".join(["N", *map(str, shape)])
            raise DamagedFileError(
                f"{file.path} holds {array!r} of shape {found} for {rows:,} labels, but ({expected}) with N > 0 is "
                "expected; this is another file, or another release of the dataset."
            )


SAMPLE_MARK = "embedded_sample"
"""The attribute by which the sample's files say that they are shorter on purpose."""

SAMPLE_ROWS = {
    V2.share: {"training": 238, "validation": 119, "testing": 238},  # 14, 7 and 14 of each class
    RANDOM.share: {"training": 340, "testing": 238},  # a tenth of the former still holds every class
}


def make_sample(root: Path, *, release: Release) -> None:
    """Write the embedded sample below `root`, in the layout of a release."""
    rng = np.random.default_rng(20190313)
    for name, rows in SAMPLE_ROWS[release.share].items():
        labels = _sample_labels(release, name, rows)
        zones = [zone(CLASSES[label], SIZE, rng) for label in labels]
        arrays = {
            "label": np.eye(len(CLASSES))[labels],
            "sen1": np.stack([radar(covers, numbers, rng) for covers, numbers in zones]),
            "sen2": np.stack([optical(covers, numbers, list(OPTICAL.bands), rng) for covers, numbers in zones]),
        }
        write_hdf5(root / "so2sat" / f"{release.folder}{name}.h5", arrays, {SAMPLE_MARK: True})


def sample_ids(release: Release, split: SplitName) -> list[str]:
    """The ids of a split of the sample."""
    return release.ids(split, SAMPLE_ROWS[release.share][release.files[split]])


def _sample_labels(release: Release, name: str, rows: int) -> np.ndarray:
    """Class numbers `[rows]`, in turn over the rows of each split."""
    labels = np.empty(rows, dtype=np.int64)
    for split in SPLITS:
        if release.files[split] == name:
            own = [_place(id_)[1] for id_ in sample_ids(release, split)]
            labels[own] = np.arange(len(own)) % len(CLASSES)
    return labels


def _task(
    name: str,
    title: str,
    release: Release,
    *,
    sensors: Sequence[Sensor] = (OPTICAL,),
    headline: bool = False,
) -> Task:
    return Task(
        name=name,
        version=1,
        title=title,
        kind="multiclass",
        classes=CLASSES,
        bands=tuple(
            Band(name=band, unit="db" if sensor is RADAR else "reflectance", resolution=10)
            for sensor in sensors
            for band in sensor.bands
        ),
        level=", ".join("Lee-filtered intensity" if sensor is RADAR else "not stated" for sensor in sensors),
        image_size=SIZE,
        splits=release.splits,
        class_counts=release.counts,
        open=partial(open_so2sat, release=release, sensors=sensors),
        sample=Sample(
            make=partial(make_sample, release=release),
            splits={split: Split.of(sample_ids(release, split)) for split in SPLITS},
            version=2,
        ),
        headline=headline,
        folder="so2sat",
        files=release.published(),
        recipes=() if RADAR in sensors else SO2SAT,
        licence="CC-BY-4.0",
        citation="Zhu et al., So2Sat LCZ42, IEEE GRSM 8(3), 2020, doi:10.1109/MGRS.2020.2964708",
        how_to_get=release.how_to_get,
    )


TASKS = (
    _task("so2sat", "So2Sat LCZ42 v2, Sentinel-2, ten held-out cities", V2, headline=True),
    _task("so2sat-s1", "So2Sat LCZ42 v2, Sentinel-1, ten held-out cities", V2, sensors=(RADAR,)),
    _task(
        "so2sat-s1s2", "So2Sat LCZ42 v2, Sentinel-1 and Sentinel-2, ten held-out cities", V2, sensors=(OPTICAL, RADAR)
    ),
    _task("so2sat-random", "So2Sat LCZ42 v3, Sentinel-2, random split", RANDOM),
    _task("so2sat-block", "So2Sat LCZ42 v3, Sentinel-2, split by place in each city", BLOCK),
    _task("so2sat-culture10", "So2Sat LCZ42 v3, Sentinel-2, ten held-out cities", CULTURE_10),
)

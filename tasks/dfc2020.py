"""DFC2020: land cover maps of the 2020 IEEE GRSS Data Fusion Contest, tiles of 256 × 256 pixels of 10 m.

Five tasks: Sentinel-2 (13 bands, L1C), Sentinel-1 (VV and VH) or both, on the contest's parts or on the lists of
Copernicus-Bench.

- `dfc2020`, `dfc2020-s1`, `dfc2020-s1s2`: as SSL4EO-S12 does, the contest's large part (`ROIs0000_test`, 5,128 tiles)
  is fitted on and its small part (`ROIs0000_validation`, 986 tiles) is the test split. The large part mixes tiles of
  six cities; the small part is one more city. Nobody published a validation split for that: one tile in ten is kept out
  of the fit, at random (`held_out`). It lies in the cities that are fitted on, so it does not show how well a choice
  carries to another city.
- `dfc2020-cobench`, `dfc2020-cobench-s1`: Copernicus-Bench's lists, 3,156 / 986 / 986 tiles of the large part alone, at
  random, with all six cities in every split. Its numbers do not compare with those of the contest's parts.
- No tile tells which others are near it. Tile numbers are shuffled: among 316 tiles whose city is known, two tiles of
  one block of 64 numbers share their city in 23 % of all cases, and any two tiles in 19 to 20 %. The files carry
  EPSG:4326 with an identity transform, which is no place. So there are no clusters, intervals take tiles as
  independent, and are too narrow where neighbouring tiles are alike.
- Labels are the `dfc` maps (10 m), never the `lc` maps (MODIS, 500 m), which have codes up to 17. Ten classes have
  codes; Savanna and Snow/Ice do not occur and are ignored like the background, so eight remain.
- B8A stands after B08 in the files. A copy with another order is refused by the level of its eleventh band: B10 sees
  no ground and stays far below all others.
- Labels are int32 in the official files; copies in uint8 and uint16 are read as well. Sentinel-1 is float64 decibel in
  the official files; values that are not finite stay so.

Version 1: first version.
Version 2: 2026-11-30. `val` of the contest's parts is one tile in ten at random; before, it was whole blocks of 64
consecutive numbers, which are no neighbours. Labels in int32 are read; before, the official files were refused.
Copernicus-Bench's lists are compared with their digests. Sentinel-1 tiles with values that are not finite are read.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy as np

from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2, Band, Sensor, Unit
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.config.task import IGNORED, SPLITS, Sample, Source, Split, SplitName, Task
from ssl4eo_bench.data.combined import combined
from ssl4eo_bench.data.images import decode_geotiff, require_band_10, write_geotiff
from ssl4eo_bench.data.patterns import Rng
from ssl4eo_bench.data.split_lists import held_out
from ssl4eo_bench.data.synthesis import Cover, blend, mosaic, regions
from ssl4eo_bench.data.trees import Tree, gather_files
from ssl4eo_bench.errors import DamagedFileError, MissingDataError, SplitError, shortlist

CODES = {
    "Forest": 1,
    "Shrubland": 2,
    "Grassland": 4,
    "Wetlands": 5,
    "Croplands": 6,
    "Urban/Built-up": 7,
    "Barren": 9,
    "Water": 10,
}
"""The codes in the files. 0 is background, 3 Savanna and 8 Snow/Ice: ignored."""

LAST_CODE = 10
SIZE = 256
FIT, TEST = "ROIs0000_test", "ROIs0000_validation"  # the contest's names; its test part is what is fitted on
TILES = {FIT: 5128, TEST: 986}

_FILE = re.compile(r"(ROIs0000_(?:test|validation))_(s1|s2|dfc)_0_(p\d+)\.tif")
SAMPLE_LIST = "sample-tiles.txt"
_WANTED = re.compile(rf"{_FILE.pattern}|dfc-(?:train|val|test)-new\.csv|{SAMPLE_LIST}")

_LABELS = np.full(LAST_CODE + 1, IGNORED, dtype=np.uint8)
_LABELS[list(CODES.values())] = range(len(CODES))


class DFC2020:
    """The tiles of one sensor and their labels, found by file name, opened for reading."""

    def __init__(self, tree: Tree, sensor: str) -> None:
        self._tree = tree
        self._sensor = sensor

    def ids(self, split: SplitName) -> list[str]:
        """The tiles of a split of the contest's parts, whatever is there of them; the sample lists its own."""
        if SAMPLE_LIST not in self._tree:
            return list(contest_ids(split))
        tiles = self._tree[SAMPLE_LIST].read().decode().split()
        return [id_ for id_ in contest_ids(split) if id_ in tiles]

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those without an image or without labels."""
        kinds = (self._sensor, "dfc")
        return [id_ for id_ in ids if any(file_name(id_, kind) not in self._tree for kind in kinds)]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Class numbers and `IGNORED` `[N, 256, 256]` uint8."""
        return np.stack([self._labels(file_name(id_, "dfc")) for id_ in ids])

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Pixels `[N, C, 256, 256]`: uint16 digital numbers, or float32 decibel for Sentinel-1."""
        order = BANDS[self._sensor]
        chosen = [position for position, band in enumerate(order) if band in bands]
        return (np.stack([self._image(file_name(id_, self._sensor))[chosen] for id_ in ids]),)

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of the stamps of these tiles' images and labels."""
        files = [file_name(id_, kind) for id_ in ids for kind in (self._sensor, "dfc")]
        stamps = "\n".join(f"{name}:{self._tree[name].stamp()}" for name in files)
        return hashlib.sha256(stamps.encode()).hexdigest()

    def check_band_order(self) -> None:
        """Refuse a copy whose eleventh band is not B10, by its first image."""
        images = sorted(name for name in self._tree if "_s2_" in name)
        if not images:
            return
        order = "B01 to B08, B8A, B09 to B12"
        require_band_10(self._image(images[0]), SENTINEL_2.index("B10"), self._tree[images[0]].where, order=order)

    def _image(self, name: str) -> np.ndarray:
        content, where = self._tree[name].read(), self._tree[name].where
        if self._sensor == "s2":
            return decode_geotiff(content, shape=(13, SIZE, SIZE), dtype="uint16", where=where)
        # The contest's files are float64; SEN12MS, whose tiles look the same, has float32.
        stored = decode_geotiff(content, shape=(2, SIZE, SIZE), dtype=("float32", "float64"), where=where)
        with np.errstate(over="ignore"):  # of values beyond float32, which become infinite
            decibel = stored.astype(np.float32)
        finite = decibel[np.isfinite(decibel)]
        if finite.size and finite.min() >= 0:
            raise DamagedFileError(
                f"{where} holds values from {finite.min():.3g} to {finite.max():.3g} and none below 0: intensities, "
                "not decibel; use the official archives."
            )
        return decibel

    def _labels(self, name: str) -> np.ndarray:
        content, where = self._tree[name].read(), self._tree[name].where
        # The official files are int32; copies are packed anew in fewer bytes.
        (codes,) = decode_geotiff(content, shape=(1, SIZE, SIZE), dtype=("int32", "uint8", "uint16"), where=where)
        high = codes.max() > LAST_CODE
        if high or codes.min() < 0:
            why = "probably an lc map (MODIS, 500 m) under another name" if high else "another map, or damaged"
            raise DamagedFileError(
                f"{where} holds code {codes.max() if high else codes.min()}, but dfc labels go from 0 to {LAST_CODE}: "
                f"it is {why}; use the official dfc archive."
            )
        labels: np.ndarray = _LABELS[codes]
        return labels


class CopernicusBenchSplit(DFC2020):
    """The same tiles on the lists of Copernicus-Bench."""

    def ids(self, split: SplitName) -> list[str]:
        """The tiles that the split's list names."""
        name = f"dfc-{split}-new.csv"
        if name not in self._tree:
            raise MissingDataError(f"the split list {name} is absent; {how_to_get((), cobench=True)}.")
        lines = [line.strip() for line in self._tree[name].read().decode("utf-8", errors="replace").splitlines()]
        matches = [(line, _FILE.fullmatch(line)) for line in lines if line]
        if foreign := [line for line, match in matches if not match or match[2] != "dfc"]:
            raise SplitError(
                f"{self._tree[name].where} names {shortlist(foreign, at_most=3)}, but names like {FIT}_dfc_0_p609.tif "
                "are expected; fetch the official list again."
            )
        return [f"{match[1]}_{match[3]}" for _, match in matches if match]


def contest_ids(split: SplitName) -> Iterator[str]:
    """The tiles of a split of the contest's parts."""
    part = TEST if split == "test" else FIT
    ids = (f"{part}_p{number}" for number in range(TILES[part]))
    return ids if split == "test" else (id_ for id_ in ids if held_out(id_) == (split == "val"))


def file_name(id_: str, kind: str) -> str:
    """The file of a tile such as `ROIs0000_test_p609`: its `s1` or `s2` image or its `dfc` labels."""
    part, _, patch = id_.rpartition("_")
    return f"{part}_{kind}_0_{patch}.tif"


def _number(id_: str) -> int:
    return int(id_.rpartition("_p")[2])


BANDS = {"s2": SENTINEL_2, "s1": SENTINEL_1}
SENSORS: dict[str, Sensor] = {"s2": "Sentinel-2", "s1": "Sentinel-1"}
UNITS: dict[str, Unit] = {"s2": "dn", "s1": "db"}
LEVELS = {"s2": "L1C", "s1": "GRD"}
CONTEST = "https://ieee-dataport.org/competitions/2020-ieee-grss-data-fusion-contest"
COBENCH = (
    "https://hf.co/datasets/wangyi111/Copernicus-Bench/resolve/9d252acd3aa0e3da3128e05c6f028647f0e48e5f/"
    "l2_dfc2020_s1s2/dfc2020.zip"
)
ABOUT_BYTES = {
    "s1_0": 4_960_000_000,
    "s2_0": 3_750_000_000,
    "dfc_0": 36_000_000,
    "s1_validation": 948_000_000,
    "s2_validation": 633_000_000,
    "dfc_validation": 6_000_000,
}


def _contest_archives(kinds: Sequence[str]) -> list[str]:
    return [f"{kind}_{part}" for part in ("0", "validation") for kind in (*kinds, "dfc")]


def how_to_get(kinds: Sequence[str], *, cobench: bool) -> str:
    """Where the files come from and where they go."""
    if cobench:
        return f"get {COBENCH} and put it, packed or not, into <data-dir>/dfc2020"
    *archives, last = (f"{name}.zip" for name in _contest_archives(kinds))
    return (
        f"get {', '.join(archives)} and {last} from {CONTEST} (with a free IEEE DataPort account) and put them, packed "
        "or not, into <data-dir>/dfc2020"
    )


def _contest_file(name: str) -> RemoteFile:
    return RemoteFile(
        name=f"{name}.zip",
        about_bytes=ABOUT_BYTES[name],
        instructions=f"Log in with a free IEEE DataPort account, get {name}.zip from {CONTEST} and put it, packed or "
        "not, into <data-dir>/dfc2020.",
    )


def _published(kinds: Sequence[str], *, cobench: bool) -> tuple[RemoteFile, ...]:
    if not cobench:
        return tuple(map(_contest_file, _contest_archives(kinds)))
    archive = RemoteFile(
        name="dfc2020.zip",
        url=COBENCH,
        md5="f10ba017dab6f38b7a6857b169ea924b",
        about_bytes=8_760_000_000,
        unpack=True,
        unpacked_bytes=16_000_000_000,
    )
    return (archive,)


def open_dfc2020(data_dir: Path, *, kinds: Sequence[str], cobench: bool) -> Source:
    """DFC2020 below a data directory: `<data-dir>/dfc2020`, or the directory itself."""
    root = data_dir / "dfc2020" if (data_dir / "dfc2020").is_dir() else data_dir
    tree = gather_files(root, _WANTED)
    if not tree:
        what = "tiles (such as ROIs0000_test_dfc_0_p609.tif)"
        raise MissingDataError(f"no DFC2020 {what} below {root}; {how_to_get(kinds, cobench=cobench)}.")
    sources = [CopernicusBenchSplit(tree, kind) if cobench else DFC2020(tree, kind) for kind in kinds]
    for kind, source in zip(kinds, sources, strict=True):
        if kind == "s2":
            source.check_band_order()
    return combined({SENSORS[kind]: source for kind, source in zip(kinds, sources, strict=True)})


SAMPLE_SIZES: dict[SplitName, int] = {"train": 28, "val": 10, "test": 16}
"""Tiles of the sample on the contest's parts: the first ones of each split."""

SAMPLE_COBENCH: dict[SplitName, range] = {"train": range(16), "val": range(16, 24), "test": range(24, 32)}
"""Numbers of the tiles of the sample on Copernicus-Bench's lists."""

# Decibel in VV and VH.
BACKSCATTER = {
    "Forest": (-8.5, -14.0),
    "Shrubland": (-10.5, -16.5),
    "Grassland": (-12.0, -19.0),
    "Wetlands": (-13.0, -21.0),
    "Croplands": (-11.0, -18.0),
    "Urban/Built-up": (-5.0, -12.0),
    "Barren": (-14.0, -23.0),
    "Water": (-19.0, -26.0),
}


@cache
def _covers() -> tuple[Cover, ...]:
    """What the classes look like in the sample, in label order.

    Pairs of them share a spectrum and differ in their pattern: what a look at single pixels cannot tell apart.
    """
    return (
        blend({"Forest": 1}, pattern="crowns"),
        blend({"Forest": 2, "HerbaceousVegetation": 1}, pattern="saplings"),
        blend({"Pasture": 1, "AnnualCrop": 1}, pattern="smooth"),
        blend({"River": 1, "SeaLake": 1}, pattern="creeks"),
        blend({"Pasture": 1, "AnnualCrop": 1}, pattern="rows"),
        blend({"Industrial": 1, "Residential": 1}, pattern="houses"),
        blend({"Industrial": 1, "Residential": 1}, visible=1.1, pattern="smooth"),
        blend({"SeaLake": 1}, pattern="swell"),
    )


def make_sample(root: Path, *, kinds: Sequence[str], cobench: bool) -> None:
    """Write the embedded sample below `root`, in the layout of the contest or of Copernicus-Bench."""
    base = root / "dfc2020" / ("dfc2020_s1s2" if cobench else "")
    ids = [id_ for split in SPLITS for id_ in sample_ids(split, cobench=cobench)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(_write_tile, base, kinds, cobench), ids))
    if cobench:
        for split in SPLITS:
            lines = "".join(f"{file_name(id_, 'dfc')}\n" for id_ in sample_ids(split, cobench=True))
            (base / f"dfc-{split}-new.csv").write_text(lines, encoding="utf-8")
    else:
        (base / SAMPLE_LIST).write_text("\n".join(ids), encoding="utf-8")


def sample_ids(split: SplitName, *, cobench: bool) -> list[str]:
    """The ids of a split of the sample."""
    if cobench:
        return [f"{FIT}_p{number}" for number in SAMPLE_COBENCH[split]]
    return list(islice(contest_ids(split), SAMPLE_SIZES[split]))


def _sample_file(id_: str, kind: str, cobench: bool) -> str:
    contest = f"{FIT}/{kind}_0" if id_.startswith(FIT) else f"{TEST}/{kind}_validation"
    return f"{kind if cobench else contest}/{file_name(id_, kind)}"


def _write_tile(base: Path, kinds: Sequence[str], cobench: bool, id_: str) -> None:
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(id_.encode()).digest()[:8], "big"))
    present = [_number(id_) % len(CODES), (_number(id_) + 3) % len(CODES)]  # so that every split has every class
    present += [int(other) for other in rng.permutation(len(CODES)) if other not in present][:1]
    numbers = regions((1.0, *rng.uniform(0.25, 0.45, 2)), size=SIZE, rng=rng)
    codes = np.array(list(CODES.values()), dtype=np.uint8)[present][numbers]
    codes[:, : rng.integers(2, 12)] = 0
    codes[: rng.integers(2, 12), -20:] = rng.choice([3, 8])
    for kind in kinds:
        if kind == "s2":
            pixels = mosaic([_covers()[number] for number in present], numbers, rng=rng)
        else:
            pixels = _radar(present, numbers, rng)
        write_geotiff(base / _sample_file(id_, kind, cobench), pixels)
    write_geotiff(base / _sample_file(id_, "dfc", cobench), codes[None].astype(np.int32))


def _radar(present: Sequence[int], numbers: np.ndarray, rng: Rng) -> np.ndarray:
    """Decibel `[2, 256, 256]` float64, as in the contest's files: backscatter of the classes under speckle."""
    level = np.array(list(BACKSCATTER.values()))[present] + rng.normal(0.0, 1.5, (len(present), 2))
    speckle = 10 * np.log10(rng.gamma(4.0, 1 / 4, (2, SIZE, SIZE)))  # of four looks
    decibel: np.ndarray = level[numbers].transpose(2, 0, 1) + speckle
    return decibel


# Written out, since every command that lists tasks would else hash thousands of ids.
CONTEST_SPLITS: dict[SplitName, Split] = {
    "train": Split(count=4643, digest="552bb87a68eb938ecf5cfa749c8203751272d0b497fcbb31f14b2993bb128ef7"),
    "val": Split(count=485, digest="cffe4881f8eca352aa3afaa38eba2d1923038852c55e1845be59f9749de441ec"),
    "test": Split(count=986, digest="b017b479393d26018e63d8e077bd7faf52169c2ae58d7d0f962f60b4bc237769"),
}
COBENCH_SPLITS: dict[SplitName, Split] = {
    "train": Split(count=3156, digest="543c192182fc4ff5d663fd22f3886c6e8e8106911754bf3f34f95ea7e648b1fb"),
    "val": Split(count=986, digest="aab8a82cc67fbea38d02f525dccc2a39c4fc178fe316bc40195904b75a3170e8"),
    "test": Split(count=986, digest="7fcc460ed9f9480498b35af0a5614ff99fa35b910cf448cdd4b500c5935c9a9c"),
}
FIT_PIXELS = (86183010, 19916196, 34044365, 7036240, 65659277, 36050754, 8761765, 78417001)
TEST_PIXELS = (5904112, 3353501, 7655859, 11272496, 8405224, 3517590, 1887823, 22621891)
"""Pixels of each class in the contest's parts. There are none of another code."""


def _task(name: str, title: str, *, kinds: Sequence[str], cobench: bool = False, headline: bool = False) -> Task:
    return Task(
        name=name,
        version=2,
        title=title,
        kind="segmentation",
        classes=tuple(CODES),
        bands=tuple(Band(name=band, unit=UNITS[kind], resolution=10) for kind in kinds for band in BANDS[kind]),
        level=" and ".join(LEVELS[kind] for kind in kinds),
        image_size=SIZE,
        splits=COBENCH_SPLITS if cobench else CONTEST_SPLITS,
        class_counts={SPLITS: FIT_PIXELS} if cobench else {("train", "val"): FIT_PIXELS, ("test",): TEST_PIXELS},
        open=partial(open_dfc2020, kinds=kinds, cobench=cobench),
        sample=Sample(
            make=partial(make_sample, kinds=kinds, cobench=cobench),
            splits={split: Split.of(sample_ids(split, cobench=cobench)) for split in SPLITS},
            version=2,
        ),
        headline=headline,
        folder="dfc2020",
        files=_published(kinds, cobench=cobench),
        licence="CC-BY-4.0",
        citation="Schmitt et al., 2020 IEEE GRSS Data Fusion Contest, doi:10.21227/rha7-m332"
        + ("; split: Wang et al., Copernicus-Bench, arXiv:2503.11849" if cobench else ""),
        how_to_get=how_to_get(kinds, cobench=cobench),
    )


TASKS = (
    _task("dfc2020", "DFC2020, Sentinel-2, contest parts", kinds=("s2",), headline=True),
    _task("dfc2020-s1", "DFC2020, Sentinel-1, contest parts", kinds=("s1",)),
    _task("dfc2020-s1s2", "DFC2020, Sentinel-1 and Sentinel-2, contest parts", kinds=("s2", "s1")),
    _task("dfc2020-cobench", "DFC2020, Sentinel-2, Copernicus-Bench split", kinds=("s2",), cobench=True),
    _task("dfc2020-cobench-s1", "DFC2020, Sentinel-1, Copernicus-Bench split", kinds=("s1",), cobench=True),
)

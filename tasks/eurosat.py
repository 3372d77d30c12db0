"""EuroSAT: 27,000 Sentinel-2 patches of 64 × 64 pixels in ten land-use classes.

Four tasks: 13-band L1C GeoTIFFs or the RGB release, on the random or the spatial split, 16,200 / 5,400 / 5,400 each.

- Random lists: Neumann et al., arXiv:1911.06721. Spatial lists, by longitude: torchgeo. The EuroSAT authors published
  no split. The lists name `.jpg` files; a sample's id is the name without the ending, the same in both releases.
- The GeoTIFFs hold B8A **last**, not between B08 and B09. A re-hosted copy with another order is refused by the level
  of its tenth band: B10 sees no ground and stays under about 50, every other band lies at several hundred.
- The RGB release is a display image: bands B04, B03, B02 stretched from 0–2750 to 1–255 and compressed as JPEG.

Version 1: first version.
"""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ssl4eo_bench.config.bands import SENTINEL_2, Band
from ssl4eo_bench.config.inputs import DisplayStretch
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.config.task import SPLITS, Sample, Split, SplitName, Task
from ssl4eo_bench.data.images import decode_geotiff, decode_jpeg, lonlat, require_band_10, write_geotiff, write_jpeg
from ssl4eo_bench.data.split_lists import read_list
from ssl4eo_bench.data.synthesis import display_image, land_covers, scene
from ssl4eo_bench.data.trees import Tree, find_tree
from ssl4eo_bench.errors import MissingDataError, SplitError, shortlist
from ssl4eo_bench.tasks._ssl4eo_recipes import EUROSAT

CLASSES = {
    "AnnualCrop": 3000,
    "Forest": 3000,
    "HerbaceousVegetation": 3000,
    "Highway": 2500,
    "Industrial": 2500,
    "Pasture": 2000,
    "PermanentCrop": 2500,
    "Residential": 3000,
    "River": 2500,
    "SeaLake": 3000,
}
FILE_ORDER = (*(band for band in SENTINEL_2 if band != "B8A"), "B8A")
RGB = ("B04", "B03", "B02")
SIZE = 64
DISPLAY = DisplayStretch(dn_range=(0.0, 2750.0), byte_range=(1.0, 255.0))

SPLIT_DIGESTS: dict[str, dict[SplitName, Split]] = {
    "eurosat": {
        "train": Split(count=16200, digest="30c6799bd87c97ce30f84f19bcb285c774cb760284d267c4d661ccf91ca55108"),
        "val": Split(count=5400, digest="67636f0686d123f1ee909ef910fd5a6f6dfcba20f6a3562defd86e715e42225c"),
        "test": Split(count=5400, digest="d622bad89b8f50cc0ccb38383beda680d14728c52369d85a2e64242dc3cdd0aa"),
    },
    "eurosat-spatial": {
        "train": Split(count=16200, digest="20a07eb31f50ed1ffd4e3e9c7c3ad12c3232d360e71a0afbd9366cfef4b3e6bf"),
        "val": Split(count=5400, digest="4d1cf74631ccad2e063e48878dfb18be9181af7640f954787870b8a425d9f205"),
        "test": Split(count=5400, digest="03cce753459274b50817326de5304bd3d2eb6d5bbb65107e9887a212df9a0e9b"),
    },
}

AS_SET = ".*.txt"
"""How a list may end instead of `.txt`, like `eurosat-test.as-set.txt`: a set in another order is the same split."""

SAMPLE_SIZES: dict[SplitName, int] = {"train": 24, "val": 12, "test": 24}  # of each class


class EuroSAT:
    """The files of either release and the lists of either split, opened for reading."""

    def __init__(self, tree: Tree, lists: Path, prefix: str, *, rgb: bool) -> None:
        self._tree = tree
        self._lists = lists
        self._prefix = prefix
        self._rgb = rgb

    def ids(self, split: SplitName) -> list[str]:
        """The ids of a split list."""
        ids = [name.removesuffix(".jpg").removesuffix(".tif") for name in read_list(self._list_file(split))]
        if foreign := [id_ for id_ in ids if not _can_exist(id_)]:
            raise SplitError(
                f"{self._list_file(split)} names {shortlist(foreign, at_most=3)}, which EuroSAT does not have; fetch "
                "the official list again."
            )
        return ids

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those without an image."""
        return [id_ for id_ in ids if self._file(id_) not in self._tree]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Class numbers `[N]`."""
        number = {name: label for label, name in enumerate(CLASSES)}
        return np.array([number[_class_of(id_)] for id_ in ids], dtype=np.int64)

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Pixels `[N, C, 64, 64]`: uint16 digital numbers, or bytes for the RGB release."""
        order = RGB if self._rgb else FILE_ORDER
        chosen = [position for position, band in enumerate(order) if band in bands]
        return (np.stack([self._image(id_)[chosen] for id_ in ids]),)

    def place_and_date(self, ids: Sequence[str]) -> np.ndarray:
        """Where the GeoTIFFs lie; nobody published their dates."""
        return np.array([(*lonlat(self._tree[self._file(id_)].read()), np.nan) for id_ in ids])

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of the stamps of these samples' files."""
        stamps = "\n".join(f"{id_}:{self._tree[self._file(id_)].stamp()}" for id_ in ids)
        return hashlib.sha256(stamps.encode()).hexdigest()

    def check_band_order(self, id_: str) -> None:
        """Refuse a copy whose tenth band is not B10, by an image."""
        where = self._tree[self._file(id_)].where
        require_band_10(self._image(id_), FILE_ORDER.index("B10"), where, order="B01 to B12, then B8A")

    def _image(self, id_: str) -> np.ndarray:
        file = self._tree[self._file(id_)]
        if self._rgb:
            return decode_jpeg(file.read(), shape=(3, SIZE, SIZE), where=file.where)
        return decode_geotiff(file.read(), shape=(13, SIZE, SIZE), dtype="uint16", where=file.where)

    def _file(self, id_: str) -> str:
        return f"{_class_of(id_)}/{id_}{'.jpg' if self._rgb else '.tif'}"

    def _list_file(self, split: SplitName) -> Path:
        exact = self._lists / f"{self._prefix}-{split}.txt"
        found = [exact] if exact.is_file() else sorted(self._lists.glob(f"{self._prefix}-{split}{AS_SET}"))
        if not found:
            raise MissingDataError(f"the split list {exact} is absent; {HOW_TO_GET_LISTS}.")
        return found[0]


def _class_of(id_: str) -> str:
    return id_.rpartition("_")[0]


def _can_exist(id_: str) -> bool:
    match = re.fullmatch(r"([A-Za-z]+)_([1-9]\d*)", id_)
    return match is not None and int(match[2]) <= CLASSES.get(match[1], 0)


RELEASE = "https://hf.co/datasets/torchgeo/eurosat/resolve/1ce6f1bfb56db63fd91b6ecc466ea67f2509774c/"
RGB_RELEASE = "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/"
HOW_TO_GET_LISTS = f"get it from {RELEASE} and put it into <data-dir>/eurosat"
HOW_TO_GET = {
    ".tif": f"get {RELEASE}EuroSATallBands.zip and put it, packed or not, into <data-dir>/eurosat",
    ".jpg": f"get {RGB_RELEASE}EuroSAT.zip and put it, packed or not, into <data-dir>/eurosat",
}
ARCHIVES = {
    ".tif": RemoteFile(
        name="EuroSATallBands.zip",
        url=f"{RELEASE}EuroSATallBands.zip",
        md5="5ac12b3b2557aa56e1826e981e8e200e",
        about_bytes=2_070_000_000,
    ),
    ".jpg": RemoteFile(
        name="EuroSAT.zip",
        url=f"{RGB_RELEASE}EuroSAT.zip",
        md5="c8fa014336c82ac7804f0398fcb19387",
        about_bytes=95_000_000,
    ),
}
LIST_FILES = {
    "eurosat-train": (313_605, "908f142e73d6acdf3f482c5e80d851b1"),
    "eurosat-val": (104_659, "95de90f2aa998f70a3b2416bfe0687b4"),
    "eurosat-test": (None, "7ae5ab94471417b6e315763121e67c5f"),
    "eurosat-spatial-train": (316_710, "7be3254be39f23ce4d4d144290c93292"),
    "eurosat-spatial-val": (99_786, "acf392290050bb3df790dc8fc0ebf193"),
    "eurosat-spatial-test": (105_934, "5ec1733f9c16116bf0aa2d921fc613ef"),
}


def _published(prefix: str, suffix: str) -> tuple[RemoteFile, ...]:
    lists = [(f"{prefix}-{split}", *LIST_FILES[f"{prefix}-{split}"]) for split in SPLITS]
    return (
        ARCHIVES[suffix],
        *(
            RemoteFile(
                name=f"{name}.txt", url=f"{RELEASE}{name}.txt", size=size, md5=md5, accepted=(f"{name}{AS_SET}",)
            )
            for name, size, md5 in lists
        ),
    )


def open_eurosat(data_dir: Path, *, prefix: str, rgb: bool) -> EuroSAT:
    """EuroSAT below a data directory: `<data-dir>/eurosat`, or the directory itself."""
    root = data_dir / "eurosat" if (data_dir / "eurosat").is_dir() else data_dir
    suffix = ".jpg" if rgb else ".tif"
    tree = find_tree(root, folders=CLASSES, suffix=suffix)
    if tree is None:
        raise MissingDataError(f"no EuroSAT images ({suffix}) below {root}; {HOW_TO_GET[suffix]}.")
    images = [name for name in tree if name.endswith(suffix)]
    if len(images) > sum(CLASSES.values()):
        raise MissingDataError(
            f"{tree.root} holds {len(images):,} images, but EuroSAT has 27,000: this copy has duplicates in it "
            f"and other numbers for the same images; {HOW_TO_GET[suffix]}."
        )
    source = EuroSAT(tree, root, prefix, rgb=rgb)
    if not rgb:
        named = [Path(name).stem for name in images if _can_exist(Path(name).stem)]
        if named:  # not some other file that lies between them
            source.check_band_order(min(named))
    return source


def make_sample(root: Path, *, prefix: str, rgb: bool) -> None:
    """Write the embedded sample below `root`, in the layout of the official archives."""
    rng = np.random.default_rng(20181107)
    inside = "2750" if rgb else "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    for split in SPLITS:
        for id_ in sample_ids(split):
            name = _class_of(id_)
            other = str(rng.choice([known for known in CLASSES if known != name]))
            pixels = scene([land_covers()[name], land_covers()[other]], size=SIZE, rng=rng)
            file = root / "eurosat" / inside / name / id_
            if rgb:
                chosen = pixels[[SENTINEL_2.index(band) for band in RGB]]
                write_jpeg(file.with_suffix(".jpg"), display_image(chosen, DISPLAY))
            else:
                write_geotiff(file.with_suffix(".tif"), pixels[[SENTINEL_2.index(band) for band in FILE_ORDER]])
        lines = "".join(f"{id_}.jpg\n" for id_ in sample_ids(split))
        (root / "eurosat" / f"{prefix}-{split}.txt").write_text(lines, encoding="utf-8")


def sample_ids(split: SplitName) -> list[str]:
    """The ids of a split of the sample: consecutive numbers of every class."""
    first = 1 + sum(SAMPLE_SIZES[before] for before in SPLITS[: SPLITS.index(split)])
    return [f"{name}_{number}" for name in CLASSES for number in range(first, first + SAMPLE_SIZES[split])]


def _task(name: str, title: str, *, rgb: bool, headline: bool = False) -> Task:
    prefix = "eurosat-spatial" if name.endswith("spatial") else "eurosat"
    return Task(
        name=name,
        version=1,
        title=title,
        kind="multiclass",
        classes=tuple(CLASSES),
        bands=tuple(
            Band(name=band, unit="byte" if rgb else "dn", resolution=10) for band in (RGB if rgb else FILE_ORDER)
        ),
        level="L1C",
        image_size=SIZE,
        tells=() if rgb else ("lonlat",),
        display=DISPLAY if rgb else None,
        splits=SPLIT_DIGESTS[prefix],
        open=partial(open_eurosat, prefix=prefix, rgb=rgb),
        sample=Sample(
            make=partial(make_sample, prefix=prefix, rgb=rgb),
            splits={split: Split.of(sample_ids(split)) for split in SPLITS},
            version=2,
        ),
        headline=headline,
        folder="eurosat",
        files=_published(prefix, ".jpg" if rgb else ".tif"),
        recipes=EUROSAT,
        licence="MIT (images: Copernicus Sentinel data terms)",
        citation="Helber et al., EuroSAT, IEEE JSTARS 12(7), 2019, doi:10.1109/JSTARS.2019.2918242",
        how_to_get=HOW_TO_GET[".jpg" if rgb else ".tif"],
    )


TASKS = (
    _task("eurosat", "EuroSAT, 13 bands, random split", rgb=False, headline=True),
    _task("eurosat-spatial", "EuroSAT, 13 bands, split by longitude", rgb=False),
    _task("eurosat-rgb", "EuroSAT, RGB release, random split", rgb=True),
    _task("eurosat-rgb-spatial", "EuroSAT, RGB release, split by longitude", rgb=True),
)

"""BigEarthNet: 590,326 pairs of Sentinel-2 and Sentinel-1 patches of 1.2 km in ten European countries, 19 labels.

- `bigearthnet`: version 1.0 on the official split of the 19-class nomenclature. Its lists leave out patches under snow,
  cloud or shadow and those without any of the 19 classes. `bigearthnet-s1` is its Sentinel-1 half, VV and VH in
  decibel, on the same split and under the same ids, which are the names of the Sentinel-2 patches.
- `bigearthnet-google`: version 1.0 on the lists of Neumann et al. (arXiv:1911.06721) without patches under snow, cloud
  or shadow, which SeCo, SSL4EO-S12 and others report on. Patches without any of the 19 classes stay in. Nobody
  publishes these lists any more; they are made from the official lists and have the md5 of the published ones. A fifth
  of the validation patches are official test patches: never compare numbers of the two.
- `bigearthnet-v2`: reBEN, reprocessed, with a geographical split and labels of its own in `metadata.parquet`.
  `bigearthnet-v2-s1` is its Sentinel-1 half.
- `bigearthnet-s1s2`, `bigearthnet-v2-s1s2`: both halves of the official pairs.

Every band is a file of its own in its native resolution. The 43 CORINE names of version 1.0 become 19 classes by name;
eleven of them have none and are ignored. The pixels are bottom-of-atmosphere reflectance, so there is no B10.

Version 1: first version.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from datetime import date
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np

from ssl4eo_bench.config.bands import RESOLUTION, Band, Sensor
from ssl4eo_bench.config.remote_files import RemoteFile
from ssl4eo_bench.config.task import SPLITS, Clusters, Sample, Source, Split, SplitName, Task
from ssl4eo_bench.data.combined import combined
from ssl4eo_bench.data.images import Decode, geotiff_decoder, lonlat
from ssl4eo_bench.data.split_lists import parquet_columns
from ssl4eo_bench.data.trees import read_file
from ssl4eo_bench.errors import DamagedFileError, MissingDataError, shortlist
from ssl4eo_bench.tasks._bigearthnet_lists import GOOGLE_LISTS, read_rows, sentinel_1_names
from ssl4eo_bench.tasks._bigearthnet_names import (
    BANDS,
    CLASSES,
    EXCLUSION_LISTS,
    HOW_TO_GET,
    HOW_TO_MAKE_LISTS,
    OFFICIAL_LISTS,
    SIDE,
    SIZE,
    V1,
    V2,
    WITHOUT_CLASS,
)
from ssl4eo_bench.tasks._bigearthnet_sample import make_sample, sample_ids
from ssl4eo_bench.tasks._ssl4eo_recipes import BIGEARTHNET

NUMBER_OF_43 = {name: number for number, names in enumerate(CLASSES.values()) for name in names}
NUMBER_OF_19 = {name: number for number, name in enumerate(CLASSES)}

PATCH = {
    "S2": re.compile(r"S2[AB]_MSIL2A_\d{8}T\d{5,6}_\d+_\d+"),
    "S2 v2": re.compile(r"S2[AB]_MSIL2A_\d{8}T\d{6}_N\d+_R\d+_T\w{5}_\d+_\d+"),
    "S1": re.compile(r"S1[AB]_IW_GRDH_1SDV_\d{8}T\d{6}_\w{5}_\d+_\d+"),
}
"""Names of patch folders. Some Sentinel-2 names lack the leading zero of the hour."""

SPLIT_DIGESTS: dict[str, dict[SplitName, Split]] = {
    "official": {
        "train": Split(count=269695, digest="aa7097119a1342cb97256283090deb8a1c0f4fa7e146eadf0f25924fd2a8c622"),
        "val": Split(count=123723, digest="45b61b66f88e954b9f855c3027d1365ae86da3d71d45cc61adbe7e96738699a8"),
        "test": Split(count=125866, digest="a276d495692b877a827fe6e1a717c923f691e95cb9d93ba858264ad92edb3f07"),
    },
    "google": {  # without snow, cloud and shadow
        "train": Split(count=311667, digest="16d8827ac312201640367e1a3276c72d8eb87e88b080f47d1e6996f0f8993f57"),
        "val": Split(count=103944, digest="6c62fcbcc1b22d99d0e1186c9687f0c70863a087dbe7fa98d2362c2b7cf825d6"),
        "test": Split(count=103728, digest="3655ce9917616e58cda2cd75c0486efa03613e17658a7c0cfa8fc71fc7089b2b"),
    },
    "v2": {
        "train": Split(count=237871, digest="fda779ef0ea3f246e01d8e17361667d0d5f0deea568534048e44955cd0c914c0"),
        "val": Split(count=122342, digest="3ed8fb168a04c2e15bf6d5ce85ef7080ffa05638fa23e765b22f478ec258a8de"),
        "test": Split(count=119825, digest="979abdfda82885e7a2271db6af2340a3f0c75c1180fb3d4cc53c334e157768ca"),
    },
}


class Patches:
    """Patch folders below a root: directly (version 1.0), or in one folder for each product (version 2)."""

    def __init__(self, root: Path, *, by_product: bool, fields: int) -> None:
        self._root = root
        self._by_product = by_product
        self._fields = fields  # at the end of a patch's name that its product's name lacks

    @cached_property
    def names(self) -> frozenset[str]:
        """The patches that have a folder."""
        folders = [entry.path for entry in os.scandir(self._root)] if self._by_product else [self._root]
        return frozenset(entry.name for folder in folders if Path(folder).is_dir() for entry in os.scandir(folder))

    def folder(self, name: str) -> Path:
        """The folder of a patch."""
        if self._by_product:
            return self._root / name.rsplit("_", self._fields)[0] / name
        return self._root / name

    def stamp(self, name: str) -> str:
        """Names, sizes and times of last change of a patch's files."""
        files = sorted(os.scandir(self.folder(name)), key=lambda entry: entry.name)
        return ",".join(f"{file.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)

    def read(self, name: str, ending: str) -> tuple[bytes, str]:
        """The bytes of the file `<name>_<ending>` of a patch, and its place for messages."""
        file = self.folder(name) / f"{name}_{ending}"
        return read_file(file, cure="unpack the archive again"), str(file)


class OfficialLists:
    """`train.csv`, `val.csv`, `test.csv`: a Sentinel-2 name a line, with its Sentinel-1 partner or without."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def ids(self, split: SplitName) -> list[str]:
        """The Sentinel-2 names of a split."""
        return [row[0] for row in self._rows(split)]

    def partners(self, patches: Patches) -> dict[str, str]:
        """The Sentinel-1 name for each Sentinel-2 name.

        From the second column of the lists, else from the package bigearthnet-common if it is installed, else from the
        labels of all Sentinel-1 patches, which takes long.
        """
        rows = [row for split in SPLITS for row in self._rows(split)]
        if all(len(row) > 1 for row in rows):
            return {row[0]: row[1] for row in rows}
        known: dict[str, str] = sentinel_1_names()
        if known:
            return known
        described = ((_description(patches, name).get("corresponding_s2_patch"), name) for name in patches.names)
        return {str(partner): name for partner, name in described if partner}

    def _rows(self, split: SplitName) -> list[list[str]]:
        rows: list[list[str]] = read_rows(self._root, f"{split}.csv")
        return rows


class GoogleLists:
    """`bigearthnet-train.txt` and so on, without the patches of the official snow and cloud lists."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def ids(self, split: SplitName) -> list[str]:
        """The Sentinel-2 names of a split."""
        rows = read_rows(self._root, f"bigearthnet-{split}.txt", cure=HOW_TO_MAKE_LISTS)
        return [row[0] for row in rows if row[0] not in self._excluded]

    @cached_property
    def _excluded(self) -> frozenset[str]:
        return frozenset(row[0] for file in EXCLUSION_LISTS for row in read_rows(self._root, file.name))


class Metadata:
    """`metadata.parquet` of version 2: splits, labels and partners."""

    def __init__(self, root: Path) -> None:
        self._file = root / "metadata.parquet"

    @cached_property
    def _table(self) -> dict[str, tuple[str, str, tuple[str, ...]]]:
        """Split, Sentinel-1 name and labels by Sentinel-2 name."""
        if not self._file.is_file():
            raise MissingDataError(f"{self._file} is absent; {HOW_TO_GET['v2']}.")
        columns = parquet_columns(self._file, ("patch_id", "split", "s1_name", "labels"))
        if not all(isinstance(text, str) for column in columns[:3] for text in column):
            raise DamagedFileError(f"{self._file} is not the metadata of BigEarthNet v2; fetch it again.")
        rows = zip(*columns, strict=True)
        return {patch: (split, partner, tuple(labels or ())) for patch, split, partner, labels in rows}

    def ids(self, split: SplitName) -> list[str]:
        """The Sentinel-2 names of a split."""
        wanted = "validation" if split == "val" else split
        return [patch for patch, (found, *_) in self._table.items() if found == wanted]

    def partners(self, patches: Patches) -> dict[str, str]:
        """The Sentinel-1 name for each Sentinel-2 name."""
        del patches
        return {patch: partner for patch, (_, partner, _) in self._table.items()}

    def labels(self, id_: str) -> tuple[str, ...]:
        """The names of a patch's labels."""
        return self._table[id_][2]


class BigEarthNet:
    """One release, sensor and split, opened for reading. Ids are names of Sentinel-2 patches."""

    def __init__(self, patches: Patches, lists: OfficialLists | GoogleLists | Metadata, *, radar: bool) -> None:
        self._patches = patches
        self._lists = lists
        self._radar = radar
        self._bands = BANDS["Sentinel-1" if radar else "Sentinel-2"]

    def ids(self, split: SplitName) -> list[str]:
        """The ids of a split list."""
        return self._lists.ids(split)

    def absent(self, ids: Sequence[str]) -> list[str]:
        """Those without a patch folder."""
        return [id_ for id_ in ids if self._patch(id_) not in self._patches.names]

    def targets(self, ids: Sequence[str]) -> np.ndarray:
        """Label indicators `[N, 19]`; all zero for a patch that has none of the 19 classes."""
        targets = np.zeros((len(ids), len(CLASSES)), dtype=np.uint8)
        for row, id_ in enumerate(ids):
            targets[row, self._numbers(id_)] = 1
        return targets

    def read(self, ids: Sequence[str], bands: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Stored pixels by resolution, `[N, C, 120, 120]`, `[N, C, 60, 60]`, `[N, C, 20, 20]`: uint16, or dB."""
        order = [band for band in self._bands if band in bands]
        groups = [[band for band in order if RESOLUTION[band] == resolution] for resolution in (10, 20, 60)]
        with geotiff_decoder() as decode:
            return tuple(
                np.stack([np.concatenate([self._band(decode, id_, band) for band in group]) for id_ in ids])
                for group in groups
                if group
            )

    def place_and_date(self, ids: Sequence[str]) -> np.ndarray:
        """Where the GeoTIFFs lie, and the days that the names of the patches tell."""
        files = [self._patches.read(self._patch(id_), f"{self._bands[0]}.tif")[0] for id_ in ids]
        return np.array([(*lonlat(file), _day(self._patch(id_))) for file, id_ in zip(files, ids, strict=True)])

    def fingerprint(self, ids: Sequence[str]) -> str:
        """The digest of the stamps of these samples' files."""
        digest = hashlib.sha256()
        for id_ in ids:
            digest.update(f"{id_}:{self._patches.stamp(self._patch(id_))}\n".encode())
        return digest.hexdigest()

    def _band(self, decode: Decode, id_: str, band: str) -> np.ndarray:
        content, where = self._patches.read(self._patch(id_), f"{band}.tif")
        size = SIDE // RESOLUTION[band]
        return decode(content, shape=(1, size, size), dtype="float32" if self._radar else "uint16", where=where)

    def _numbers(self, id_: str) -> list[int]:
        if isinstance(self._lists, Metadata):
            labels = self._lists.labels(id_)
            if foreign := [name for name in labels if name not in NUMBER_OF_19]:
                raise DamagedFileError(
                    f"metadata.parquet gives {id_} the label {shortlist(map(str, foreign))}, which is none of the 19; "
                    "fetch it again."
                )
            return [NUMBER_OF_19[name] for name in labels]
        patch = self._patch(id_)
        names = _description(self._patches, patch)["labels"]
        if foreign := [name for name in names if name not in NUMBER_OF_43 and name not in WITHOUT_CLASS]:
            raise DamagedFileError(
                f"patch {patch} has the label {shortlist(foreign)!r}, which is none of the 43 of BigEarthNet v1.0; "
                "unpack the archive again."
            )
        return [NUMBER_OF_43[name] for name in names if name in NUMBER_OF_43]

    def _patch(self, id_: str) -> str:
        return self._partner.get(id_, "") if self._radar else id_

    @cached_property
    def _partner(self) -> dict[str, str]:
        assert not isinstance(self._lists, GoogleLists)  # there is no such task
        return self._lists.partners(self._patches)


def _day(patch: str) -> float:
    """Days from 1970-01-01 to the recording of a patch."""
    (recorded,) = re.findall(r"_(\d{8})T\d", patch)
    return float((date.fromisoformat(recorded) - date(1970, 1, 1)).days)


def _description(patches: Patches, patch: str) -> dict[str, list[str]]:
    content, where = patches.read(patch, "labels_metadata.json")
    try:
        described: dict[str, list[str]] = json.loads(content)
        readable = all(isinstance(name, str) for name in described["labels"])
    except (ValueError, KeyError, TypeError, RecursionError):
        readable = False
    if not readable:
        raise DamagedFileError(f"{where} does not hold the labels of a patch; unpack the archive again.")
    return described


def open_bigearthnet(data_dir: Path, *, variant: str, sensors: Sequence[Sensor]) -> Source:
    """BigEarthNet below a data directory: `<data-dir>/bigearthnet`, or the directory itself."""
    root = data_dir / "bigearthnet" if (data_dir / "bigearthnet").is_dir() else data_dir
    return combined({sensor: _open_sensor(root, variant, radar=sensor == "Sentinel-1") for sensor in sensors})


def _open_sensor(root: Path, variant: str, *, radar: bool) -> BigEarthNet:
    sensor = "S1" if radar else "S2"
    by_product = variant == "v2"
    pattern = PATCH["S2 v2" if by_product and not radar else sensor]
    folder = _folder_of_patches(root, pattern, by_product=by_product)
    if folder is None:
        packed = next((f" ({file.name} is there, but packed)" for file in sorted(root.glob("*.tar.*"))), "")
        raise MissingDataError(f"no Sentinel-{sensor[1]} patches below {root}{packed}; {HOW_TO_GET[variant]}.")
    lists: dict[str, Callable[[Path], OfficialLists | GoogleLists | Metadata]] = {
        "official": OfficialLists,
        "google": GoogleLists,
        "v2": Metadata,
    }
    patches = Patches(folder, by_product=by_product, fields=3 if radar else 2)
    return BigEarthNet(patches, lists[variant](root), radar=radar)


def _folder_of_patches(root: Path, name: re.Pattern[str], *, by_product: bool) -> Path | None:
    """The first folder, at most two levels deep, that holds patches (or products that hold patches)."""
    level = [root]
    for _ in range(3):
        for folder in level:
            for entry in _some_folders(folder):
                # A patch of version 2 begins with the name of the product it lies in.
                patches = _patches_of(entry) if by_product else [entry] if entry not in _patches_of(folder) else []
                if any(name.fullmatch(patch.name) for patch in patches):
                    return folder
        level = [inner for folder in level for inner in _some_folders(folder)]
    return None


def _patches_of(product: Path) -> list[Path]:
    return [inner for inner in _some_folders(product) if inner.name.startswith(product.name)]


def _some_folders(folder: Path) -> list[Path]:
    """The first folders in a folder, by name: looking at all of half a million would take long."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in islice(entries, 50) if entry.is_dir())


def scene_of(id_: str) -> str:
    """The Sentinel-2 image that a patch of version 1.0 is from, by satellite and time: `S2A_MSIL2A_20170613T101031`."""
    return id_.rsplit("_", 2)[0]


def tile_of(id_: str) -> str:
    """The tile of Sentinel-2's grid, such as `T33UUP`, that a patch of version 2 lies in, whenever it was taken."""
    return id_.split("_")[5]


OF_SCENE, OF_TILE = Clusters(what="Sentinel-2 images", of=scene_of), Clusters(what="Sentinel-2 tiles", of=tile_of)

S2: tuple[Sensor, ...] = ("Sentinel-2",)
S1: tuple[Sensor, ...] = ("Sentinel-1",)
LEVEL: dict[Sensor, str] = {"Sentinel-2": "L2A", "Sentinel-1": "GRD"}


def _published(variant: str, sensors: Sequence[Sensor]) -> tuple[RemoteFile, ...]:
    names = [sensor.replace("entinel-", "") for sensor in sensors]
    if variant == "v2":
        return tuple(dict.fromkeys(file for name in names for file in V2[name]))
    lists = OFFICIAL_LISTS if variant == "official" else (*OFFICIAL_LISTS, *EXCLUSION_LISTS, *GOOGLE_LISTS)
    return (*(V1[name] for name in names), *lists)


def _task(name: str, title: str, *, variant: str, sensors: tuple[Sensor, ...] = S2, headline: bool = False) -> Task:
    return Task(
        name=name,
        version=1,
        title=title,
        kind="multilabel",
        classes=tuple(CLASSES),
        bands=tuple(
            Band(name=band, unit="db" if sensor == "Sentinel-1" else "dn", resolution=RESOLUTION[band])
            for sensor in sensors
            for band in BANDS[sensor]
        ),
        level=" and ".join(LEVEL[sensor] for sensor in sensors),
        image_size=SIZE,
        tells=("lonlat", "date"),
        splits=SPLIT_DIGESTS[variant],
        open=partial(open_bigearthnet, variant=variant, sensors=sensors),
        sample=Sample(
            make=partial(make_sample, variant=variant, sensors=sensors),
            splits={split: Split.of(sample_ids(split, variant)) for split in SPLITS},
            version=2,
        ),
        clusters=OF_TILE if variant == "v2" else OF_SCENE,
        headline=headline,
        folder="bigearthnet",
        files=_published(variant, sensors),
        recipes=BIGEARTHNET if sensors == S2 else (),
        licence="CDLA-Permissive-1.0",
        citation="Clasen et al., reBEN, IGARSS 2025, arXiv:2407.03653"
        if variant == "v2"
        else "Sumbul et al., BigEarthNet, IGARSS 2019, doi:10.1109/IGARSS.2019.8900532",
        how_to_get=HOW_TO_GET[variant],
    )


TASKS = (
    _task("bigearthnet", "BigEarthNet-S2 v1.0, 19 classes, official split", variant="official", headline=True),
    _task("bigearthnet-s1", "BigEarthNet-S1 v1.0, 19 classes, official split", variant="official", sensors=S1),
    _task("bigearthnet-s1s2", "BigEarthNet-MM v1.0, 19 classes, official split", variant="official", sensors=S2 + S1),
    _task("bigearthnet-google", "BigEarthNet-S2 v1.0, 19 classes, split of SeCo and SSL4EO-S12", variant="google"),
    _task("bigearthnet-v2", "BigEarthNet-S2 v2.0 (reBEN), 19 classes, official split", variant="v2"),
    _task("bigearthnet-v2-s1", "BigEarthNet-S1 v2.0 (reBEN), 19 classes, official split", variant="v2", sensors=S1),
    _task(
        "bigearthnet-v2-s1s2", "BigEarthNet-MM v2.0 (reBEN), 19 classes, official split", variant="v2", sensors=S2 + S1
    ),
)

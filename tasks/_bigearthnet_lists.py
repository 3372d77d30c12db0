"""Lists of BigEarthNet 1.0: reading the official ones, and making Google's from them.

Google's lists (Neumann et al., arXiv:1911.06721) are not published any more, but they follow from the names of all
590,326 patches. TensorFlow Datasets sorts the patches of BigEarthNet by a hash of their names and writes them to 128
files. Google cut the sorted patches at 60 and 80 per cent, and wrote the names of each part in the order in which
`tf.data` reads it: from 16 files in turn, 16 patches at a time. `google_list` does the same, and its bytes have the md5
of the published files.
"""

import bz2
import csv
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice, pairwise
from pathlib import Path

from ssl4eo_bench.config.remote_files import MadeOf, RemoteFile
from ssl4eo_bench.config.task import SplitName
from ssl4eo_bench.data.split_lists import csv_rows, unpacked
from ssl4eo_bench.data.trees import read_file
from ssl4eo_bench.errors import MissingDataError
from ssl4eo_bench.tasks._bigearthnet_names import EXCLUSION_LISTS, HOW_TO_GET_LISTS, OFFICIAL_LISTS

WITHOUT_ANY_CLASS = {
    "S2A_MSIL2A_20170717T113321": "61_13 61_14 61_15 61_16 61_17 61_18 61_19 62_12 62_13 62_14 63_10 64_70 72_73",
    "S2A_MSIL2A_20170813T112121": "78_70",
    "S2A_MSIL2A_20170905T095031": "30_78 41_5 42_3",
    "S2A_MSIL2A_20171002T112111": "78_70",
    "S2A_MSIL2A_20171002T112112": "66_79 72_82",
    "S2A_MSIL2A_20171201T112431": "66_79 72_82",
    "S2A_MSIL2A_20171208T093351": "1_64",
    "S2A_MSIL2A_20180413T95032": "71_9 72_9",
    "S2B_MSIL2A_20170709T094029": "30_78 41_5 42_3",
    "S2B_MSIL2A_20170818T112109": "66_79 72_82",
    "S2B_MSIL2A_20170825T093029": "16_38 16_39",
    "S2B_MSIL2A_20170914T093029": "16_38 16_39",
    "S2B_MSIL2A_20170927T94020": "3_89",
    "S2B_MSIL2A_20180220T114339": "61_13 61_14 61_15 61_16 61_17 61_18 61_19 62_12 62_13 62_14 63_10 64_70 72_73",
    "S2B_MSIL2A_20180224T112109": "78_70",
    "S2B_MSIL2A_20180326T112109": "66_79 72_82",
    "S2B_MSIL2A_20180417T102019": "30_1",
    "S2B_MSIL2A_20180422T093029": "16_38 16_39",
    "S2B_MSIL2A_20180525T094029": "30_78 41_5 42_3",
}
"""The 57 patches without any of the 19 classes: positions by image. No official list names them.

From `patches_with_no_19_class_targets.csv` of the package bigearthnet-common 2.8.0 (Apache-2.0).
"""

FILES, AT_ONCE = 128, 16
"""Files of TensorFlow Datasets, and how many are read in turn, as many patches at a time."""

BOUNDS: dict[SplitName, tuple[float, float]] = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}


def read_rows(root: Path, name: str, *, cure: str = HOW_TO_GET_LISTS) -> list[list[str]]:
    """The rows of a list file, packed or not; line ends may be LF or CRLF."""
    plain, packed = root / name, root / f"{name}.gz"
    if not plain.is_file() and not packed.is_file():
        raise MissingDataError(f"the list {plain} (or {packed.name}) is absent; {cure}.")
    content = read_file(plain, cure=cure) if plain.is_file() else unpacked(packed)
    return csv_rows(content, plain, cure=cure)


def sentinel_1_names() -> dict[str, str]:
    """The Sentinel-1 name for each Sentinel-2 name, from the package bigearthnet-common if it is installed, else none.

    Nothing else that is published has them for all patches: the metadata of version 2 lack 39,246 patches of the
    official lists, most of them from images that version 2 does not use.
    """
    package = find_spec("bigearthnet_common")
    for folder in (package and package.submodule_search_locations) or ():
        table = Path(folder) / "s1_s2_name_country_season.csv.bz2"
        if table.is_file():
            with bz2.open(table, "rt", encoding="utf-8", newline="") as opened:
                return {row["s2_name"]: row["s1_name"] for row in csv.DictReader(opened)}
    return {}


def google_list(root: Path, split: SplitName) -> bytes:
    """The bytes of Google's list of a split, made from the official lists below `root`."""
    return "\n".join(google_names(all_patches(root), split)).encode()


def all_patches(root: Path) -> set[str]:
    """The names of all patches of version 1.0, from the five official lists below `root` and the 57 in none of them."""
    names = {row[0] for file in (*OFFICIAL_LISTS, *EXCLUSION_LISTS) for row in read_rows(root, file.name)}
    return names.union(
        f"{image}_{position}" for image, positions in WITHOUT_ANY_CLASS.items() for position in positions.split()
    )


def google_names(patches: set[str], split: SplitName) -> list[str]:
    """The names of a split in Google's order."""
    hashed = sorted(patches, key=lambda name: hashlib.md5(f"train{name}".encode(), usedforsecurity=False).digest())
    first, stop = (round(share * len(hashed)) for share in BOUNDS[split])
    bounds = [min(max(round(file * len(hashed) / FILES), first), stop) for file in range(FILES + 1)]
    return _in_turn([hashed[start:end] for start, end in pairwise(bounds) if start < end])


def _in_turn(files: Sequence[Sequence[str]]) -> list[str]:
    """The content of files in the order of `tf.data.Dataset.interleave`; a file's end takes a turn as well."""
    waiting, names = deque(map(iter, files)), []
    places: deque[Iterator[str] | None] = deque([None] * AT_ONCE)
    while waiting or any(places):
        file = places.popleft() or (waiting.popleft() if waiting else iter(()))
        block = list(islice(file, AT_ONCE))
        names.append(block)
        places.append(file if len(block) == AT_ONCE else None)
    return list(chain.from_iterable(names))


PUBLISHED: tuple[tuple[SplitName, int, str], ...] = (
    ("train", 11_565_074, "343f7224951da0879cabcceae7b34a64"),
    ("val", 3_854_939, "8fe0292aa346c0833850a322e1c1e783"),
    ("test", 3_854_838, "efce8d370cf5f55afc415ace88605218"),
)
GOOGLE_LISTS = tuple(
    RemoteFile(
        name=f"bigearthnet-{split}.txt",
        size=size,
        md5=md5,
        made=MadeOf(what="the official lists", make=partial(google_list, split=split)),
        accepted=(f"bigearthnet-{split}.txt.gz",),
    )
    for split, size, md5 in PUBLISHED
)

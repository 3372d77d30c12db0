"""How fast are BigEarthNet patches read?

From folders, against torchgeo's `BigEarthNet` dataset (extra `peers`) on the same real patches: seconds of processor
time, so per core. Then from a pack against folders, on the embedded sample.
"""

import importlib.util
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rasterio

from benchmarks.setting import alternate, arguments, describe_machine, median_ratio, report
from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.task import Source
from ssl4eo_bench.data.packing import pack
from ssl4eo_bench.data.packs import open_source, pack_folder
from ssl4eo_bench.data.sample_dataset import write_sample
from ssl4eo_bench.data.splits import open_splits

BATCH = 32


def against_torchgeo(data_dir: Path) -> bool:
    """Read the real patches with both, in alternation."""
    if importlib.util.find_spec("torchgeo") is None:
        print("torchgeo is not installed (`pip install 'ssl4eo-bench[peers]'`): left out")
        return True
    task = catalogue.task("bigearthnet")
    bands = [band.name for band in task.bands]
    with tempfile.TemporaryDirectory() as folder:
        for archive in (data_dir / "bigearthnet").glob("BigEarthNet-S2*.tar.gz"):
            with tarfile.open(archive) as opened:
                opened.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.3 has none
                opened.extractall(folder)
        source = task.open(Path(folder))
        ids = sorted(path.name for path in Path(folder, "BigEarthNet-v1.0").iterdir())
        theirs = _torchgeo(Path(folder), ids)
        _require_equal(source, ids, bands, Path(folder))
        ours_at_once: Callable[[], object] = lambda: [source.read(ids, bands) for _ in range(10)]  # noqa: E731
        theirs_at_once: Callable[[], object] = lambda: [theirs() for _ in range(3)]  # noqa: E731
        ours_seconds, theirs_seconds = _processor_seconds(ours_at_once, theirs_at_once, rounds=5)
    ours_rates = [10 * len(ids) / each for each in ours_seconds]
    theirs_rates = [3 * len(ids) / each for each in theirs_seconds]
    print(f"patches per second and core: {np.median(ours_rates):.0f}, torchgeo {np.median(theirs_rates):.0f}")
    return report("reading real patches, torchgeo ÷ ours", median_ratio(ours_rates, theirs_rates), 4.0)


def _torchgeo(root: Path, ids: Sequence[str]) -> Callable[[], object]:
    """Reads all patches with torchgeo, whose checks of lists and archives are left out."""
    from torchgeo.datasets import BigEarthNet

    class Listed(BigEarthNet):  # type: ignore[misc]
        def _verify(self) -> None:
            pass

    for split in ("train", "val", "test"):
        name = BigEarthNet.splits_metadata[split]["filename"]
        (root / name).write_text("".join(f"{id_},none\n" for id_ in ids), encoding="utf-8")
    dataset = Listed(str(root), split="train", bands="s2")
    return lambda: [dataset[number] for number in range(len(ids))]


def _require_equal(source: Source, ids: Sequence[str], bands: Sequence[str], folder: Path) -> None:
    """Pixels must be those that plain rasterio reads."""
    groups = source.read(ids, bands)
    names = catalogue.task("bigearthnet").groups(bands)
    for row, id_ in enumerate(ids):
        for columns, pixels in zip(names, groups, strict=True):
            for column, band in enumerate(columns):
                with rasterio.open(folder / "BigEarthNet-v1.0" / id_ / f"{id_}_{band}.tif") as file:
                    assert (file.read(1) == pixels[row, column]).all()


def _processor_seconds(*actions: Callable[[], object], rounds: int) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, its_times in zip(actions, times, strict=True):
            begin = time.process_time()
            action()
            its_times.append(time.process_time() - begin)
    return times


def from_a_pack() -> bool:
    """Read the sample from folders and from its pack, in alternation."""
    task = catalogue.task("bigearthnet")
    bands = [band.name for band in task.bands]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "sample"
        write_sample(task, home)
        samples = open_splits(task, home, sample=True)
        files = samples["train"].reader
        pack(task, samples, pack_folder(task, home))
        packed = open_source(task, home)
        ids = samples["train"].ids

        def read(source: Source) -> None:
            for start in range(0, len(ids), BATCH):
                source.read(ids[start : start + BATCH], bands)

        folders, arrays = alternate(lambda: read(files), lambda: read(packed), rounds=5)
    print(f"patches per second: folders {len(ids) / np.median(folders):.0f}, pack {len(ids) / np.median(arrays):.0f}")
    return report("reading from a pack, folders ÷ pack", median_ratio(folders, arrays), 40.0)


def main() -> int:
    """Print the table; 1 if a target was missed."""
    options = arguments(__doc__ or "")
    describe_machine()
    met = [against_torchgeo(options.data_dir), from_a_pack()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())

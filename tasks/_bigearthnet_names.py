"""BigEarthNet's names: the 19 classes and the 43 they are made of, its bands, and its published files."""

from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2, Sensor
from ssl4eo_bench.config.remote_files import RemoteFile

CLASSES = {
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "Industrial or commercial units": ("Industrial or commercial units",),
    "Arable land": ("Non-irrigated arable land", "Permanently irrigated land", "Rice fields"),
    "Permanent crops": (
        "Vineyards",
        "Fruit trees and berry plantations",
        "Olive groves",
        "Annual crops associated with permanent crops",
    ),
    "Pastures": ("Pastures",),
    "Complex cultivation patterns": ("Complex cultivation patterns",),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "Agro-forestry areas": ("Agro-forestry areas",),
    "Broad-leaved forest": ("Broad-leaved forest",),
    "Coniferous forest": ("Coniferous forest",),
    "Mixed forest": ("Mixed forest",),
    "Natural grassland and sparsely vegetated areas": ("Natural grassland", "Sparsely vegetated areas"),
    "Moors, heathland and sclerophyllous vegetation": ("Moors and heathland", "Sclerophyllous vegetation"),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Beaches, dunes, sands": ("Beaches, dunes, sands",),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
}
"""The 19 classes in the order of the official `label_indices.json`, and the names of the 43 that belong to each."""

WITHOUT_CLASS = frozenset(
    {
        "Road and rail networks and associated land",
        "Port areas",
        "Airports",
        "Mineral extraction sites",
        "Dump sites",
        "Construction sites",
        "Green urban areas",
        "Sport and leisure facilities",
        "Bare rock",
        "Burnt areas",
        "Intertidal flats",
    }
)

BANDS: dict[Sensor, tuple[str, ...]] = {
    "Sentinel-2": tuple(band for band in SENTINEL_2 if band != "B10"),
    "Sentinel-1": SENTINEL_1,
}
SIZE = 120
SIDE = SIZE * 10
"""Of a patch, in metres."""

ARCHIVES = "https://zenodo.org/records/12687186/files/"
LISTS = "https://git.tu-berlin.de/rsim/BigEarthNet-MM_19-classes_models/-/raw/9a5be07346ab0884b2d9517475c27ef9db9b5104/splits/"
EXCLUDED = "http://bigearth.net/static/documents/"
VERSION_2 = "https://zenodo.org/records/10891137/files/"
HOW_TO_GET_LISTS = (
    f"get train.csv, val.csv and test.csv from {LISTS}, and patches_with_seasonal_snow.csv and "
    f"patches_with_cloud_and_shadow.csv from {EXCLUDED}, and put them into <data-dir>/bigearthnet"
)
HOW_TO_MAKE_LISTS = (
    "run `ssl4eo-bench data prepare bigearthnet-google`, which makes it from the official lists, or `ssl4eo-bench data "
    "download bigearthnet-google`, which fetches those first that are absent"
)
HOW_TO_GET = {
    "official": f"unpack BigEarthNet-S2-v1.0.tar.gz (or S1) of {ARCHIVES} in <data-dir>/bigearthnet",
    "google": f"unpack BigEarthNet-S2-v1.0.tar.gz of {ARCHIVES} in <data-dir>/bigearthnet",
    "v2": f"get metadata.parquet and BigEarthNet-S2.tar.zst (or S1) of {VERSION_2}, and unpack the latter with "
    "`tar --zstd -xf` in <data-dir>/bigearthnet",
}

V1 = {
    sensor: RemoteFile(
        name=f"BigEarthNet-{sensor}-v1.0.tar.gz",
        url=f"{ARCHIVES}BigEarthNet-{sensor}-v1.0.tar.gz",
        md5=md5,
        about_bytes=about_bytes,
        unpack=True,
        unpacked_bytes=unpacked_bytes,
    )
    for sensor, md5, about_bytes, unpacked_bytes in (
        ("S2", "5a64e9ce38deb036a435a7b59494924c", 66_000_000_000, 120_000_000_000),
        ("S1", "94ced73440dea8c7b9645ee738c5a172", 55_000_000_000, 90_000_000_000),
    )
}
OFFICIAL_LISTS = tuple(
    RemoteFile(
        name=f"{split}.csv",
        url=f"{LISTS}{split}.csv?inline=false",
        size=size,
        md5=md5,
        accepted=(f"{split}.csv.gz",),
    )
    for split, size, md5 in (
        ("train", 21_156_152, "623e501b38ab7b12fe44f0083c00986d"),
        ("val", 9_704_306, "22efe8ed9cbd71fa10742ff7df2b7978"),
        ("test", 9_872_180, "697fb90677e30571b9ac7699b7e5b432"),
    )
)
EXCLUSION_LISTS = tuple(
    RemoteFile(name=name, url=f"{EXCLUDED}{name}", size=size, md5=md5, accepted=(f"{name}.gz",))
    for name, size, md5 in (
        ("patches_with_seasonal_snow.csv", 2_065_439, "7219803bde2ab2925ded75c5109450f5"),
        ("patches_with_cloud_and_shadow.csv", 313_331, "7388ec3bee2d519846f01ecb9f95cc4d"),
    )
)
V2 = {
    sensor: (
        RemoteFile(
            name="metadata.parquet",
            url=f"{VERSION_2}metadata.parquet",
            size=3_616_349,
            md5="55687065e77b6d0b0f1ff604a6e7b49c",
        ),
        RemoteFile(
            name=f"BigEarthNet-{sensor}.tar.zst", url=f"{VERSION_2}BigEarthNet-{sensor}.tar.zst", size=size, md5=md5
        ),
    )
    for sensor, size, md5 in (
        ("S2", 63_251_710_377, "2245ed2d1a93f6ce637d839bc856396e"),
        ("S1", 54_439_153_171, "a55eaa2cdf6a917e296bd6601ec1e348"),
    )
}

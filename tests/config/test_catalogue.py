import re
import time
from pathlib import Path

import pytest
import timm

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import SENTINEL_1, SENTINEL_2, Sensor
from ssl4eo_bench.config.catalogue import load_catalogue
from ssl4eo_bench.config.checkpoint import Checkpoint
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.layouts import Layout
from ssl4eo_bench.config.scaling import BySensor, ClippedZScore, Divide, Quantise, Stretch
from ssl4eo_bench.config.weights import (
    DriveWeights,
    FileWeights,
    HubFileWeights,
    HubWeights,
    PackagedWeights,
    RandomWeights,
    UrlWeights,
)
from ssl4eo_bench.errors import SpecError, UnknownNameError

ENTRY = """
checkpoints:
  mine.tag:
    arch: resnet18
    weights: {random: true}
    bands: [B04, B03, B02]
    image_size: 64
    scaling: {divide: 10000}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_shipped_catalogue_is_valid_and_its_offline_suite_needs_no_download() -> None:
    known = load_catalogue()
    assert known.suite("offline") == (
        "tf_efficientnet_lite0.in1k",
        "resnet18.random",
        "bandstats",
    )
    assert set(known.suite("all")) == set(known.checkpoints)


SHIPPED = load_catalogue().checkpoints.values()
each = pytest.mark.parametrize("entry", SHIPPED, ids=lambda entry: entry.name)
FOUNDATION = {entry.name for entry in SHIPPED if entry.is_plugin and not entry.arch.endswith(":LateFusion")}
"""Networks of other libraries; tests/backbones is about them."""
each_of_timm = pytest.mark.parametrize(
    "entry", [entry for entry in SHIPPED if entry.name not in FOUNDATION], ids=lambda entry: entry.name
)

FAMILY = (
    "resnet50.ssl4eo_s12-moco_v2-s2l1c",
    "resnet50.ssl4eo_s12-dino-s2l1c",
    "vit_small_patch16_224.ssl4eo_s12-moco_v3-s2l1c",
    "vit_small_patch16_224.ssl4eo_s12-dino-s2l1c",
    "vit_small_patch16_224.ssl4eo_s12-mae-s2l1c",
    "beit_small_patch16_224.ssl4eo_s12-data2vec-s2l1c",
)
LAYOUTS = ("moco-v2", "dino", "moco-v3", "dino", "mae", "data2vec")


def test_the_catalogue_is_as_large_as_it_says() -> None:
    assert len(SHIPPED) >= 70


@pytest.mark.parametrize(("name", "layout"), list(zip(FAMILY, LAYOUTS, strict=True)))
def test_the_papers_six_are_there_in_every_form(name: str, layout: str) -> None:
    known = load_catalogue()
    full, backbone = known.checkpoint(f"{name}-full"), known.checkpoint(f"{name}-backbone")
    for entry, expected in ((full, layout), (backbone, "data2vec" if layout == "data2vec" else "timm")):
        assert isinstance(entry.weights, DriveWeights)
        assert (entry.weights.layout, entry.weights.file) == (expected, f"{entry.name}.pth")
        assert entry.scaling == Quantise(uint8=10000)
    in_suite = backbone.name if layout == "data2vec" else name
    assert in_suite in known.suite("ssl4eo-s12")
    if layout != "data2vec":
        weights = known.checkpoint(name).weights
        assert isinstance(weights, HubFileWeights)
        assert weights.layout == "timm"
        assert known.checkpoint(name).scaling == Divide(divide=10000)


def test_suites_hold_what_they_are_named_after() -> None:
    known = load_catalogue()
    assert set(known.suites) == {"offline", "ssl4eo-s12", "ssl4eo-s12-s1", "rivals", "foundation"}
    for name, members in known.suites.items():
        assert len(set(members)) == len(members), name
        assert set(members) <= set(known.checkpoints)
    assert {"resnet50.random", "resnet50.in1k-supervised-rgb"} < set(known.suite("ssl4eo-s12"))
    assert all(known.checkpoint(name).bands == SENTINEL_1 for name in known.suite("ssl4eo-s12-s1"))
    assert not set(known.suite("rivals")) & (set(known.suite("ssl4eo-s12")) | set(known.suite("ssl4eo-s12-s1")))
    left_out = FOUNDATION - set(known.suite("foundation"))
    no_commit_is_known, no_foundation = "terramind_v1_large.", "tf_efficientnet_b4.ukis_csmask-"
    assert all(name.startswith((no_commit_is_known, no_foundation)) for name in left_out)


@each
def test_every_source_is_pinned(entry: Checkpoint) -> None:
    match entry.weights:
        case HubFileWeights():
            unpinned = {"wangyi111/DeCUR", "ibm-esa-geospatial/TerraMind-1.0-large"}
            is_main = entry.weights.repository in unpinned and entry.weights.revision == "main"
            assert is_main or re.fullmatch("[0-9a-f]{40}", entry.weights.revision)
            file, sha256 = entry.weights.file, entry.weights.sha256
        case UrlWeights():
            assert entry.weights.sha256 or entry.weights.md5
            file, sha256 = entry.weights.url, entry.weights.sha256
        case _:  # Drive has no checksums; the others are pinned by their kind
            assert isinstance(entry.weights, DriveWeights | PackagedWeights | HubWeights | RandomWeights | None)
            return
    in_name = re.search(r"-([0-9a-f]{8}|[0-9a-f]{64})\.pth?$", file)
    assert sha256 == (in_name[1] if in_name else None)


def test_no_unpinned_weights_are_in_a_suite() -> None:
    known = load_catalogue()
    for members in known.suites.values():
        for name in members:
            weights = known.checkpoint(name).weights
            assert not (isinstance(weights, HubFileWeights) and weights.revision == "main")


def test_no_file_is_entered_twice_under_one_feature() -> None:
    files = [
        (
            entry.weights.source,
            repr(entry.weights.layout),
            entry.feature,
            entry.name in FOUNDATION and (entry.bands, entry.sensors),
        )
        for entry in SHIPPED
        if isinstance(entry.weights, UrlWeights | HubFileWeights | DriveWeights)
    ]
    assert len(set(files)) == len(files)


JOINT = Layout(keys=("model", ""), leftovers=("projector1.*", "projector2.*", "bn.*"))
"""Both branches of a training state of DeCUR."""


@each_of_timm
def test_layouts_are_named_and_belong_to_the_method(entry: Checkpoint) -> None:
    if entry.weights is None or isinstance(entry.weights, RandomWeights | HubWeights):
        return
    assert isinstance(entry.weights, DriveWeights | UrlWeights | HubFileWeights | PackagedWeights | FileWeights)
    assert entry.pretraining
    of_method = {
        "MoCo-v2": "moco-v2",
        "MoCo-v3": "moco-v3",
        "DINO": "dino",
        "MAE": "mae",
        "FG-MAE": "mae",
        "DeCUR": JOINT if len(entry.sensors) > 1 else "decur-s1" if entry.bands == SENTINEL_1 else "decur-s2",
        "SeCo": "seco",
        "SoftCon": "dinov2",
    }
    if entry.name.endswith("-full"):
        expected = "data2vec" if "data2vec" in entry.name else of_method[entry.pretraining.method]
    elif entry.arch.endswith("dinov2"):
        expected = "dinov2"
    elif entry.pretraining.method == "data2vec":
        expected = "data2vec"
    elif entry.pretraining.method == "supervised":
        expected = "timm-by-order" if isinstance(entry.weights, PackagedWeights) else "torchvision"
    else:
        expected = "timm"
    assert entry.weights.layout == expected


@each_of_timm
def test_bands_are_those_the_name_says(entry: Checkpoint) -> None:
    if entry.name.endswith(("s1grd", "s1grd-full", "s1grd-backbone", "-s1")):
        assert entry.bands == ("VV", "VH")
    elif "rgb" in entry.name:
        assert entry.bands == ("B04", "B03", "B02")
    elif entry.name.endswith(("-s1s2-full", "-s1s2-backbone")):
        assert sorted(entry.bands) == sorted(SENTINEL_1 + SENTINEL_2)
    elif entry.name.endswith((".random", ".random-s1s2")):
        assert entry.bands == "task"  # nothing was learnt of any band
    elif "s2l1c" in entry.name:
        assert entry.bands == SENTINEL_2
        assert entry.bands[8:11] == ("B8A", "B09", "B10")
    else:
        assert entry.name in {"tf_efficientnet_lite0.in1k", "bandstats", "resnet50.ssl4eco-seco_eco-s2-12"}
    if len(entry.bands) == 13:
        assert entry.bands == SENTINEL_2
    if len(entry.bands) == 12:
        assert entry.bands == tuple(band for band in SENTINEL_2 if band != "B10")


@each_of_timm
def test_architecture_feature_and_size_go_together(entry: Checkpoint) -> None:
    if entry.arch == "bandstats":
        return
    if entry.is_plugin:
        assert entry.name.split(".")[0] == (entry.options or {})["arch"]
        return
    assert entry.name.split(".")[0] == entry.arch
    assert entry.arch == "beit_small_patch16_224" or timm.is_model(entry.arch)
    expected = "cls4" if entry.name.endswith("-cls4") else "cls" if entry.arch.startswith("vit_") else "pooled"
    assert (entry.feature, entry.image_size) == (expected, 256 if "dinov3" in entry.arch else 224)


@each_of_timm
def test_scalings_are_those_of_the_pretraining(entry: Checkpoint) -> None:
    if isinstance(entry.scaling, BySensor):
        return  # as that of the branches, which another test compares
    clipped = "softcon" in entry.name or entry.name.startswith("vit_small_patch16_224.ssl4eo_s12-decur")
    if entry.bands == SENTINEL_1 or clipped:
        assert isinstance(entry.scaling, ClippedZScore)
        assert entry.scaling.clip_std == 2
        assert set(entry.scaling.mean) == set(entry.scaling.std) == set(entry.bands)
    elif entry.arch != "bandstats" and entry.bands[:2] == ("B01", "B02"):
        original = entry.name.endswith(("-full", "-backbone"))
        assert entry.scaling == (Quantise(uint8=10000) if original else Divide(divide=10000))


def test_statistics_are_those_of_ssl4eo_s12() -> None:
    known = load_catalogue()
    radar = known.checkpoint("vit_small_patch16_224.ssl4eo_s12-mae-s1grd").scaling
    assert radar == ClippedZScore(
        clip_std=2, mean={"VV": -12.54847273, "VH": -20.19237134}, std={"VV": 5.25697717, "VH": 5.91150917}
    )
    optical = known.checkpoint("resnet50.ssl4eo_s12ml-softcon-s2l1c").scaling
    assert isinstance(optical, ClippedZScore)
    assert (optical.mean["B8A"], optical.std["B8A"]) == (2560.29504086, 1345.52684884)
    assert (optical.mean["B10"], optical.std["B10"]) == (22.10351321, 51.15431158)
    for form in ("backbone", "full"):
        assert known.checkpoint(f"vit_small_patch16_224.ssl4eo_s12-decur-s2l1c-{form}").scaling == optical
    assert (optical.mean["B12"], optical.std["B01"]) == (1524.06546312, 786.78685367)


@pytest.mark.parametrize("arch", ["resnet50", "vit_small_patch16_224"])
def test_each_sensor_of_a_joint_network_is_scaled_as_for_its_branch_alone(arch: str) -> None:
    known = load_catalogue()
    joint = known.checkpoint(f"{arch}.ssl4eo_s12-decur-s1s2-full")
    assert isinstance(joint.scaling, BySensor)
    branches: dict[Sensor, str] = {"Sentinel-1": "s1grd", "Sentinel-2": "s2l1c"}
    for sensor, name in branches.items():
        branch = known.checkpoint(f"{arch}.ssl4eo_s12-decur-{name}-full")
        assert joint.scaling.by_sensor[sensor] == branch.scaling
        assert isinstance(joint.weights, HubFileWeights)
        assert isinstance(branch.weights, HubFileWeights)
        assert joint.weights.source == branch.weights.source


def test_seco_sees_its_quantiles() -> None:
    scaling = load_catalogue().checkpoint("resnet50.seco-seco-s2rgb").scaling
    assert isinstance(scaling, Stretch)
    for band, quantiles in {"B04": (0, 129), "B03": (2, 103), "B02": (3, 88)}.items():
        assert scaling.range_of(band) == pytest.approx([10000 * byte / 255 for byte in quantiles], abs=0.005)


@each
def test_weights_of_timm_are_fed_and_licensed_as_timm_says(entry: Checkpoint) -> None:
    if not isinstance(entry.weights, HubWeights):
        return
    config = timm.get_pretrained_cfg(entry.weights.timm)
    assert config
    assert isinstance(entry.scaling, Stretch)
    assert entry.scaling.stretch == (0, 2750)
    statistics = [tuple(by_band[band] for band in entry.bands) for by_band in (entry.scaling.mean, entry.scaling.std)]
    assert statistics == [config.mean, config.std]
    assert entry.licence.lower() == str(config.license).removesuffix("-license")
    assert bool(entry.resize_pos_embed) == (config.input_size[-1] != entry.image_size)


@each
def test_licence_pretraining_and_citation_are_told(entry: Checkpoint) -> None:
    unlicensed = {"resnet50.fmow-gassl-rgb", "bandstats"}
    if entry.name in unlicensed or isinstance(entry.weights, RandomWeights):
        assert entry.licence == ""
    else:
        own = {"DINOv3", "OlmoEarth"}
        assert entry.licence in own | {"Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "CC-BY-NC-4.0", "MIT", "ODC-BY"}
    assert entry.pretraining
    assert entry.citation or entry.arch == "bandstats"
    if "ssl4eo_s12" in entry.name:
        assert entry.pretraining.data.startswith("SSL4EO-S12")


def test_unknown_names_are_answered_with_the_closest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"checkpoint 'resnet18.rnadom' not found; did you mean 'resnet18.random'"
    ):
        load_catalogue().checkpoint("resnet18.rnadom")
    with pytest.raises(UnknownNameError, match="suite 'ofline' not found; did you mean 'offline'"):
        load_catalogue().suite("ofline")
    with pytest.raises(UnknownNameError, match="task 'eurosta' not found; did you mean 'eurosat'"):
        catalogue.task("eurosta")


def test_a_users_file_adds_entries(tmp_path: Path) -> None:
    assert load_catalogue(written(tmp_path, ENTRY)).checkpoint("mine.tag").image_size == 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("arch: resnet18", "arch: resnet18\n    colour: red"), "key 'colour' is not a known key"),
        (("{random: true}", "{random: true, seed: 3}"), "key 'weights.seed' is not a known key"),
        (("    arch: resnet18\n", ""), "key 'arch' is missing"),
        (("[B04, B03, B02]", "[B04, B4, B02]"), "a band is listed twice"),
        (("[B04, B03, B02]", "[B04, VV]"), "give each sensor its own by `{by_sensor:"),
        (("[B04, B03, B02]", "[B04, NDVI]"), "band 'NDVI' is not known"),
        (("{divide: 10000}", "{by_sensor: {}}"), "scaling.by_sensor: Dictionary should have at least 1 item"),
        (("{divide: 10000}", "{by_sensor: {S2: {divide: 1}}}"), "should be 'Sentinel-1', 'Sentinel-2' or 'other'"),
        (("{divide: 10000}", "{by_sensor: {Sentinel-1: {divide: 1}}}"), "scaling has nothing for Sentinel-2"),
        (
            ("{divide: 10000}", "{by_sensor: {Sentinel-2: {mean: {B04: 1}, std: {B04: 1}}}}"),
            "scaling has no mean for B03, B02",
        ),
        (
            ("{divide: 10000}", "{by_sensor: {Sentinel-2: {by_sensor: {}}}}"),
            "divide, stretch, uint8, raw, clip_std, mean is needed",
        ),
        (("{divide: 10000}", "{mean: {B04: 1}, std: {B04: 1}}"), "scaling has no mean for B03, B02"),
        (("{divide: 10000}", "{mean: [1, 2, 3], std: [1, 1, 1]}"), "statistics must be keyed by band name"),
        (("{divide: 10000}", "{divide: 0}"), "greater than 0"),
        (("{divide: 10000}", "{multiply: 2}"), "divide, stretch, uint8, raw, clip_std, mean, by_sensor is needed"),
        (("image_size: 64", "image_size: big"), "image_size"),
        (("image_size: 64", "image_size: native"), "a backbone needs `weights` and an `image_size`"),
        (("mine.tag:", "'../mine':"), "a checkpoint name is made of letters"),
        (("mine.tag:", "resnet18.random:"), "is already in the catalogue"),
        (("checkpoints:", "checkpoint:"), "may hold the keys `checkpoints`, `suites` and `shared`; found checkpoint"),
        (("arch: resnet18", "arch: resnet18\n    arch: resnet50"), "key 'arch' is given twice"),
        (("{divide: 10000}", "{divide: 10000"), "is not valid YAML"),
        (("{random: true}", "{path: w.pth, sha256: 12}"), "12 is not a sha256 of 64 digits in lower case, in quotes"),
        (("{random: true}", "{hf: owner/repo/w.pth}"), "'owner/repo/w.pth' is not written owner/repository@revision/"),
        (("{random: true}", "{url: 'https://host/w.pth'}"), "a file on the web needs its `sha256`, its first 8 digits"),
        (("{random: true}", "{url: 'ftp://host/w'}"), "'ftp://host/w' is not an address like https://host/file"),
        (("{random: true}", "{drive: short, file: w.pth}"), "'short' is not the id of a file on Google Drive"),
        (
            ("{random: true}", "{package: p, file: f, sha256: " + 64 * "a" + ", layout: x, install: i}"),
            "layout must be one of auto, timm-by-order, own, moco-v2",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['(', x]]}}"),
            "'(' is not a regular expression",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['a{99999999999999}', x]]}}"),
            "'a{99999999999999}' is not a regular expression",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['^(a+)+$', b]]}}"),
            "'^(a+)+$' repeats a group",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['(?x)^(a+) +$', b]]}}"),
            "repeats a group, has flags",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['a?a?a?a?aaaa', b]]}}"),
            "or has more than 3 repeats",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['a', '" + 501 * "b" + "']]}}"),
            "has more than 500 characters",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['^a', '\\1']]}}"),
            "'\\\\1' cannot be put for '^a' (invalid group reference 1",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {renames: [['^a', '\\g<b>']]}}"),
            "'\\\\g<b>' cannot be put for '^a' (unknown group name 'b')",
        ),
        (
            ("{random: true}", "{path: w, sha256: " + 64 * "a" + ", layout: {keys: &k [*k]}}"),
            "it has more than 1,000,000 characters when its aliases are written out",
        ),
        (
            ("{random: true}", "{package: os.path, file: f, sha256: " + 64 * "a" + ", install: i}"),
            "'os.path' is not the import name of a package, without dots",
        ),
        (("{random: true}", "{url: 'https://host:99999/w', md5: " + 32 * "a" + "}"), "is not an address like https://"),
        (("{random: true}", "{url: 'https://host:x/w', md5: " + 32 * "a" + "}"), "is not an address like https://"),
        (("{random: true}", "{url: 'https://[::1/w', md5: " + 32 * "a" + "}"), "is not an address like https://"),
        (("{random: true}", "{url: 'https://:80/w', md5: " + 32 * "a" + "}"), "is not an address like https://"),
    ],
)
def test_a_malformed_file_is_refused_with_its_fault(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in ENTRY
    with pytest.raises(SpecError) as refusal:
        load_catalogue(written(tmp_path, ENTRY.replace(*change)))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "mine.yaml" in str(refusal.value)


SHARED = """
shared:
  rgb: &rgb {bands: [B04, B03, B02], image_size: 64, scaling: {divide: 10000}}
  smaller: &smaller {<<: *rgb, image_size: 32}
checkpoints:
  mine.tag:
    <<: [*smaller, *rgb]
    arch: resnet18
    weights: {random: true}
  mine.other:
    <<: *smaller
    arch: resnet18
    weights: {random: true}
    image_size: 16
"""


def test_entries_share_keys_and_their_own_win(tmp_path: Path) -> None:
    known = load_catalogue(written(tmp_path, SHARED))
    assert (known.checkpoint("mine.tag").image_size, known.checkpoint("mine.other").image_size) == (32, 16)
    assert known.checkpoint("mine.other").bands == ("B04", "B03", "B02")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (SHARED + "    image_size: 8\n", "image_size"),
        (SHARED + "    <<: *rgb\n", "<<"),
        (SHARED.replace("  smaller:", "  rgb:"), "rgb"),
        (SHARED.replace("mine.other", "mine.tag"), "mine.tag"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SpecError, match=f"key '{key}' is given twice"):
        load_catalogue(written(tmp_path, text))


def test_a_suite_names_only_checkpoints_that_exist(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"suite 'all-mine' names 'other.tag'"):
        load_catalogue(written(tmp_path, ENTRY + "suites:\n  all-mine: [mine.tag, other.tag]\n"))


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        load_catalogue(tmp_path / "absent.yaml")


def test_paths_of_weights_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    text = ENTRY.replace("{random: true}", f"{{path: w.pth, sha256: {'ab' * 32}}}")
    weights = load_catalogue(written(tmp_path, text)).checkpoint("mine.tag").weights
    assert weights is not None
    assert weights.model_dump()["path"] == str(tmp_path / "w.pth")


def test_identity_holds_what_moves_numbers_and_nothing_else(tmp_path: Path) -> None:
    entry = load_catalogue(written(tmp_path, ENTRY)).checkpoint("mine.tag")
    again = load_catalogue(written(tmp_path / "..", ENTRY.replace("10000", "10000.0"))).checkpoint("mine.tag")
    assert entry.identity() == again.identity()
    assert entry.model_copy(update={"licence": "MIT", "name": "other"}).identity() == entry.identity()
    assert entry.at_size(96).identity() != entry.identity()
    assert entry.at_size(96).name == "mine.tag@96"
    assert entry.at_size(64) == entry
    assert entry.at_precision("bfloat16").identity() == entry.identity() | {"precision": "bfloat16"}
    assert entry.at_size(96).at_precision("bfloat16").name == "mine.tag@96@bfloat16"
    floor = load_catalogue().checkpoint("bandstats")
    assert floor.at_precision("bfloat16") == floor  # there is no network


def test_a_broken_task_module_is_named_and_touches_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl4eo_bench.tasks

    (tmp_path / "broken.py").write_text("raise ImportError('no such reader')\n")
    (tmp_path / "misnamed.py").write_text("from ssl4eo_bench.tasks.eurosat import TASKS\n")
    (tmp_path / "stops.py").write_text("raise SystemExit('no licence')\n")
    (tmp_path / "typed.py").write_text("TASKS = ('typed',)\n")
    whole = catalogue.tasks()
    monkeypatch.setattr(ssl4eo_bench.tasks, "__path__", [*ssl4eo_bench.tasks.__path__, str(tmp_path)])
    assert catalogue.tasks() == whole
    for name, message in {
        "broken": "task module 'broken' cannot be used: ImportError: no such reader",
        "misnamed": "must live in a module called 'eurosat'",
        "stops": "task module 'stops' cannot be used: SystemExit: no licence",
        "typed": "has 'typed' in its TASKS, which is no Task",
    }.items():
        assert message in str(catalogue.broken_modules()[name])
        with pytest.raises(SpecError, match=re.escape(message)):
            catalogue.task(name)
    with pytest.raises(UnknownNameError, match="did you mean 'eurosat'"):
        catalogue.task("eurosta")
    (tmp_path / "eurosat.py").write_text("TASKS = ()\n")
    with pytest.raises(SpecError, match="two task modules are called 'eurosat'"):
        catalogue.task("eurosat-rgb")
    assert catalogue.tasks() == {name: task for name, task in whole.items() if not name.startswith("eurosat")}


BOMB = "shared:\n  - &a0 x\n" + "".join(f"  - &a{level} [*a{level - 1}, *a{level - 1}]\n" for level in range(1, 30))
DEEP = "shared:\n  - &a0 []\n" + "".join(f"  - &a{depth} [*a{depth - 1}]\n" for depth in range(1, 10_000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("arch:", "name: bandstats\n    arch:", 1), "named by its key alone"),
        (ENTRY.replace("mine.tag", "mine:tag"), "has ':' in it, which marks the models of timm; choose another name"),
        (ENTRY.replace("mine.tag", "mine@64"), "has '@' in it, which marks another input size or precision"),
        (ENTRY + "    licence: 2020-99-99\n", "not valid YAML"),
        (ENTRY.replace("10000", "9" * 400), "a number has 400 digits"),
        (ENTRY + "suites: {s: null}\n", "must be a list of checkpoints"),
        (ENTRY + "suites: {s: []}\n", "must be a list of checkpoints"),
        (ENTRY + "suites: {all: [mine.tag]}\n", "'all' is already in the catalogue"),
        (ENTRY + "suites: {5: [mine.tag]}\n", "must map names to entries"),
        ("[" * 4000, "not valid YAML: it is nested too deeply"),
        (
            ENTRY.replace("{divide: 10000}", "{mean: {B04: 1, B4: 2, B03: 1, B02: 1}, std: {B04: 1, B03: 1, B02: 1}}"),
            "a band twice",
        ),
        (ENTRY.replace("{random: true}", "{timm: resnet50.a1_in1k}"), "not of the architecture resnet18"),
        (ENTRY + "    licence: " + "1:" * 400 + "1.0\n", "not valid YAML: int too large to convert to float"),
        (ENTRY + "    licence: !!timestamp today\n", "not valid YAML"),
        (ENTRY + "    licence: !!bool perhaps\n", "not valid YAML"),
        (
            DEEP + ENTRY.replace("{random: true}", "{url: *a9999}"),
            "more than 1,000,000 characters when its aliases are",
        ),
        (BOMB + ENTRY.replace("{random: true}", "{url: *a29}"), "more than 1,000,000 characters when its aliases are"),
        (f"# {'x' * 10**6}\n{ENTRY}", "more than 1,000,000 characters"),
        (ENTRY + "suites: {s: [[mine.tag]]}\n", "suite 's' names \\['mine.tag'\\], which is not a checkpoint"),
        (ENTRY + "suites: {s: [{mine.tag: 1}]}\n", "suite 's' names {'mine.tag': 1}, which is not a checkpoint"),
    ],
    ids=range(20),
)
def test_what_would_mean_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as refusal:
        load_catalogue(written(tmp_path, text))
    assert "\n" not in str(refusal.value)


def test_a_scaling_without_finite_numbers_is_refused(tmp_path: Path) -> None:
    checkpoint = load_catalogue(written(tmp_path, ENTRY.replace("10000", "1.0e-320"))).checkpoint("mine.tag")
    with pytest.raises(SpecError, match="no finite numbers"):
        map_inputs(catalogue.task("so2sat").bands, checkpoint)


@each_of_timm
def test_an_entry_says_which_weights_its_pretraining_went_on_from(entry: Checkpoint) -> None:
    resnet = entry.name.startswith("resnet50")
    start = {"DeCUR": None if resnet else "ImageNet", "SoftCon": "DINO" if resnet else "DINOv2"}
    if entry.pretraining:
        assert entry.pretraining.start == start.get(entry.pretraining.method)


def test_a_catalogue_of_many_keys_is_read_at_once(tmp_path: Path) -> None:
    text = ENTRY + "shared:\n" + "".join(f"  k{number}: 1\n" for number in range(30_000))
    started = time.process_time()
    load_catalogue(written(tmp_path, text))
    assert time.process_time() - started < 15  # of 2; comparing each key with all others took 34

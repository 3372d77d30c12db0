from pathlib import Path

import pytest

from ssl4eo_bench.errors import SpecError, UnknownNameError
from ssl4eo_bench.spec import catalogue
from ssl4eo_bench.spec.catalogue import load_catalogue
from ssl4eo_bench.spec.inputs import map_inputs

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
        "resnet50.random",
        "bandstats",
    )
    assert set(known.suite("all")) == set(known.checkpoints)
    assert len(known.checkpoint("resnet50.random").bands) == 13


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
        (("[B04, B03, B02]", "[B04, VV]"), "must come from one sensor"),
        (("[B04, B03, B02]", "[B04, NDVI]"), "band 'NDVI' is not known"),
        (("{divide: 10000}", "{mean: {B04: 1}, std: {B04: 1}}"), "scaling has no mean for B03, B02"),
        (("{divide: 10000}", "{mean: [1, 2, 3], std: [1, 1, 1]}"), "statistics must be keyed by band name"),
        (("{divide: 10000}", "{divide: 0}"), "greater than 0"),
        (("{divide: 10000}", "{multiply: 2}"), "one of the keys divide, stretch, uint8, raw, clip_std, mean is needed"),
        (("image_size: 64", "image_size: big"), "image_size"),
        (("image_size: 64", "image_size: native"), "a backbone needs `weights` and an `image_size`"),
        (("mine.tag:", "'../mine':"), "a checkpoint name is made of letters"),
        (("mine.tag:", "resnet18.random:"), "is already in the catalogue"),
        (("checkpoints:", "checkpoint:"), "may hold the keys `checkpoints`, `suites` and `shared`; found checkpoint"),
        (("arch: resnet18", "arch: resnet18\n    arch: resnet50"), "key 'arch' is given twice"),
        (("{divide: 10000}", "{divide: 10000"), "is not valid YAML"),
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


def test_a_broken_task_module_stops_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ssl4eo_bench.tasks

    (tmp_path / "broken.py").write_text("raise ImportError('no such reader')\n")
    (tmp_path / "misnamed.py").write_text("from ssl4eo_bench.tasks.eurosat import TASKS\n")
    monkeypatch.setattr(ssl4eo_bench.tasks, "__path__", [*ssl4eo_bench.tasks.__path__, str(tmp_path)])
    with pytest.raises(SpecError, match="task module 'broken' cannot be used: ImportError: no such reader"):
        catalogue.tasks()
    assert catalogue.task("eurosat").name == "eurosat"  # its neighbours are not touched
    with pytest.raises(SpecError, match="must live in a module called 'eurosat'"):
        catalogue.tasks_of("misnamed")
    (tmp_path / "eurosat.py").write_text("TASKS = ()\n")
    with pytest.raises(SpecError, match="two task modules are called 'eurosat'"):
        catalogue.task_modules()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace("arch:", "name: bandstats\n    arch:", 1), "named by its key alone"),
        (ENTRY.replace("mine.tag", "mine:tag"), "without a colon"),
        (ENTRY + "    licence: 2020-99-99\n", "not valid YAML"),
        (ENTRY.replace("10000", "9" * 400), "too large"),
        (ENTRY + "suites: {s: null}\n", "must be a list of checkpoints"),
        (ENTRY + "suites: {s: []}\n", "must be a list of checkpoints"),
        (ENTRY + "suites: {all: [mine.tag]}\n", "'all' is already in the catalogue"),
        (ENTRY + "suites: {5: [mine.tag]}\n", "must map names to entries"),
        ("[" * 4000, "not valid YAML"),
        (
            ENTRY.replace("{divide: 10000}", "{mean: {B04: 1, B4: 2, B03: 1, B02: 1}, std: {B04: 1, B03: 1, B02: 1}}"),
            "a band twice",
        ),
        (ENTRY.replace("{random: true}", "{timm: resnet50.a1_in1k}"), "not of the architecture resnet18"),
    ],
    ids=range(11),
)
def test_what_would_mean_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as refusal:
        load_catalogue(written(tmp_path, text))
    assert "\n" not in str(refusal.value)


def test_a_scaling_without_finite_numbers_is_refused(tmp_path: Path) -> None:
    checkpoint = load_catalogue(written(tmp_path, ENTRY.replace("10000", "1.0e-320"))).checkpoint("mine.tag")
    with pytest.raises(SpecError, match="no finite numbers"):
        map_inputs(catalogue.task("so2sat").bands, checkpoint)

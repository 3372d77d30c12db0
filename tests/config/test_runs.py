import pytest

from ssl4eo_bench.config import catalogue
from ssl4eo_bench.config.bands import SENTINEL_2
from ssl4eo_bench.config.inputs import map_inputs
from ssl4eo_bench.config.protocols import PIXELS, PROTOCOLS, Linear
from ssl4eo_bench.config.run_spec import RunSpec, TaskRecord


@pytest.fixture
def spec() -> RunSpec:
    task = catalogue.task("eurosat")
    checkpoint = catalogue.load_catalogue().checkpoint("resnet18.random")
    return RunSpec(
        task=TaskRecord.of(task, task.embedded().splits),
        checkpoint=checkpoint,
        inputs=map_inputs(task.bands, checkpoint),
        protocol=PROTOCOLS["linear"],
        seed=3,
    )


def test_the_path_follows_from_the_spec(spec: RunSpec) -> None:
    assert str(spec.path) == "runs/eurosat-v1/linear-v2/resnet18.random/seed3.json"
    marked = spec.model_copy(update={"partial": True, "limit": 50})
    assert marked.path.name == "seed3-partial-limit50.json"
    assert (spec.is_official, marked.is_official) == (True, False)
    timm = spec.checkpoint.model_copy(update={"name": "timm:resnet18.random"})
    assert spec.model_copy(update={"checkpoint": timm}).path.parent.name == "timm-resnet18.random"


def test_the_digest_changes_with_whatever_can_move_a_number(spec: RunSpec) -> None:
    test = spec.task.splits["test"].model_copy(update={"digest": "0" * 64})
    changes: list[dict[str, object]] = [
        {"seed": 4},
        {"sample": True},
        {"partial": True},
        {"limit": 10},
        {"protocol": Linear(tolerance=1e-4)},
        {"protocol": Linear(pixels=64)},
        {"protocol": Linear(pixels=65)},
        {"checkpoint": spec.checkpoint.at_size(96)},
        {"checkpoint": spec.checkpoint.at_precision("bfloat16")},
        {"checkpoint": spec.checkpoint.model_copy(update={"arch": "resnet34"})},
        {"inputs": spec.inputs.model_copy(update={"image_size": 96})},
        {"task": spec.task.model_copy(update={"version": 2})},
        {"task": spec.task.model_copy(update={"splits": spec.task.splits | {"test": test}})},
    ]
    digests = {spec.model_copy(update=change).digest for change in changes}
    assert len(digests) == len(changes)
    assert spec.digest not in digests


def test_the_digest_ignores_names_licences_and_places(spec: RunSpec) -> None:
    documented = spec.checkpoint.model_copy(update={"name": "other.name", "licence": "MIT", "citation": "me"})
    assert spec.model_copy(update={"checkpoint": documented}).digest == spec.digest


def test_a_spec_survives_json(spec: RunSpec) -> None:
    again = RunSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.digest == spec.digest


def test_only_segmentation_has_pixels_in_its_settings_and_digest() -> None:
    linear = PROTOCOLS["linear"]
    assert linear.for_kind("multiclass") == linear.for_kind("multilabel") == linear
    assert linear.for_kind("segmentation") == Linear(pixels=PIXELS)
    assert "pixels" not in linear.model_dump(exclude_none=True)


def test_a_setting_that_is_not_used_is_not_in_the_digest(spec: RunSpec) -> None:
    """A digest is the one from before there was segmentation, and before every checkpoint had a precision."""
    checkpoint = spec.checkpoint.model_copy(update={"bands": SENTINEL_2})
    inputs = map_inputs(catalogue.task("eurosat").bands, checkpoint)
    before = spec.model_copy(update={"checkpoint": checkpoint, "inputs": inputs, "protocol": Linear(version=1)})
    assert before.digest == "04445c3d6a401fdb1b2ab497a2e5ed903dda4ad2e8f83e91e6b90f8ecb016873"


def test_precision_is_part_of_what_is_run(spec: RunSpec) -> None:
    """What a GPU would rather run in is not: a run is the same on every device."""
    asked = [spec.model_copy(update={"checkpoint": spec.checkpoint.at_precision(p)}) for p in ("float32", "bfloat16")]
    assert asked[0] == spec  # what runs anyway changes no name
    assert asked[1].checkpoint.name == "resnet18.random@bfloat16"
    assert asked[1].digest != spec.digest


def test_runs_that_no_seed_can_change(spec: RunSpec) -> None:
    stats = catalogue.load_catalogue().checkpoint("bandstats")
    fixed = spec.model_copy(update={"checkpoint": stats, "inputs": map_inputs(catalogue.task("eurosat").bands, stats)})
    assert spec.seed_matters  # draws the weights
    assert not fixed.seed_matters
    assert not fixed.model_copy(update={"protocol": PROTOCOLS["knn"]}).seed_matters
    assert fixed.model_copy(update={"fraction": 0.1}).seed_matters
    assert fixed.model_copy(update={"protocol": PROTOCOLS["finetune"]}).seed_matters


def test_resamples_are_those_of_a_version_of_a_task(spec: RunSpec) -> None:
    assert spec.model_copy(update={"seed": 9, "fraction": 0.1}).bootstrap_seed == spec.bootstrap_seed
    other = spec.task.model_copy(update={"version": 2})
    assert spec.model_copy(update={"task": other}).bootstrap_seed != spec.bootstrap_seed


def test_a_run_with_mostly_filled_bands_is_never_official() -> None:
    task = catalogue.task("eurosat-rgb")
    checkpoint = catalogue.load_catalogue().checkpoint("resnet50.ssl4eo_s12-moco_v2-s2l1c")
    spec = RunSpec(
        task=TaskRecord.of(task, task.embedded().splits),
        checkpoint=checkpoint,
        inputs=map_inputs(task.bands, checkpoint, task.display, fill_bands=True),
        protocol=PROTOCOLS["linear"],
        seed=0,
    )
    assert not spec.is_official
    assert spec.path.name == "seed0-filled-bands.json"


def test_the_grid_is_log_spaced_from_strong_to_weak() -> None:
    grid = Linear().grid()
    assert len(grid) == 45
    assert grid[0] == pytest.approx(1e-6)
    assert grid[-1] == pytest.approx(1e5)
    assert grid[4] / grid[0] == pytest.approx(10.0)


def test_the_seed_matters_where_it_draws_something(spec: RunSpec) -> None:
    fixed = spec.model_copy(update={"checkpoint": catalogue.load_catalogue().checkpoint("bandstats")})
    recipe = catalogue.task("bigearthnet").recipes[0]
    assert spec.seed_matters  # of a random checkpoint
    assert not fixed.seed_matters
    assert not fixed.model_copy(update={"protocol": PROTOCOLS["knn"]}).seed_matters
    assert fixed.model_copy(update={"fraction": 0.1}).seed_matters
    assert fixed.model_copy(update={"protocol": PROTOCOLS["finetune"]}).seed_matters
    assert fixed.model_copy(update={"protocol": recipe}).seed_matters

"""The settings of SSL4EO-S12's released code (commit 2156913c) for each task and pretraining method.

The scripts that fine-tune DINO were never released, only what launches them: the rates are theirs, and all else is that
of the linear probes. The scripts that should fine-tune MoCo-v2 on EuroSAT and So2Sat, and MAE, train the head alone;
here the whole network is trained, as their names say.
"""

from ssl4eo_bench.config.recipe import PROCESSES, Recipe

Settings = dict[str, object]

_STEPS: Settings = {"schedule": "steps"}
_LARGE: Settings = {"batch": 256 * PROCESSES, "scored_batch": 256}
_MOCO: Settings = {"by_epoch": True, "drops_scored": True}
_MOCO_V3_BIGEARTHNET: Settings = {"by_epoch": True, "keeps_last": True, "weighted": True}
_DINO: Settings = {"by_epoch": True, "first": 1, "scores_last": True, "weighted": True}
_MAE: Settings = {"batch_norm": True, "first": 1, "scores_last": True, "weighted": True}
_DATA2VEC: Settings = {
    "warmup": 10,
    "weight_decay": 1e-4,
    "layer_decay": 0.65,
    "nesterov": True,
    "head_std": 2e-5,  # 0.02, times 0.001
    "first": 1,
    "scored_batch": 96,
    "weighted": True,
}
_EVERY_EPOCH: Settings = {"every": 1}
_FROZEN_POSITIONS: Settings = {"frozen_positions": True}


def _recipes(shared: Settings, **methods: dict[str, Settings]) -> tuple[Recipe, ...]:
    """The recipes of a task, by protocol and method; a key such as `DINO vit` is for some architectures only."""
    found = []
    for name, known in methods.items():
        for key, settings in known.items():
            method, _, arch = key.partition(" ")
            of = {"name": f"{name}-ssl4eo", "method": method, "arch": arch or None}
            found.append(Recipe.model_validate(of | shared | settings))
    return tuple(found)


BIGEARTHNET = _recipes(
    {"smallest_crop": 0.8, "shuffles_scored": True},  # its lists are ordered by a hash of the names
    linear={
        "MoCo-v2": {"rate": 8.0} | _MOCO | _STEPS | _LARGE,
        "MoCo-v3": {"rate": 0.1} | _MOCO_V3_BIGEARTHNET,
        "DINO": {"rate": 0.1, "keeps_last": True} | _DINO,
        "MAE": {"rate": 1.0} | _MAE,
        "data2vec": {"rate": 1e-3} | _DATA2VEC,
    },
    finetune={
        "MoCo-v2": {"rate": 0.1} | _MOCO,
        "MoCo-v3": {"rate": 0.01, "evaluating": True} | _MOCO_V3_BIGEARTHNET | _FROZEN_POSITIONS,
        "DINO": {"rate": 0.01, "keeps_last": True} | _DINO,
        "MAE": {"rate": 0.1, "warmup": 10} | _MAE,
        "data2vec": {"rate": 1e-3} | _DATA2VEC,
    },
)
_LINEAR_OF_BOTH: dict[str, Settings] = {
    "MoCo-v2": {"rate": 8.0} | _MOCO | _STEPS,
    "MoCo-v3": {"rate": 0.1} | _MOCO,
    "DINO": {"rate": 0.01} | _DINO,
    "MAE": {"rate": 0.1} | _MAE,
    "data2vec": {"rate": 0.1} | _DATA2VEC | _EVERY_EPOCH,
}
EUROSAT = _recipes(
    {"smallest_crop": 0.08, "shuffles_scored": True},  # it draws its split at random
    linear=_LINEAR_OF_BOTH,
    finetune={
        "MoCo-v2": {"rate": 0.1} | _MOCO | _STEPS,
        "MoCo-v3": {"rate": 0.1} | _MOCO | _FROZEN_POSITIONS,
        "DINO": {"rate": 0.001} | _DINO,
        "MAE": {"rate": 0.1, "warmup": 10} | _MAE,
        "data2vec": {"rate": 1e-3} | _DATA2VEC | _EVERY_EPOCH,
    },
)
SO2SAT = _recipes(
    {"smallest_crop": 0.08},  # ids are numbers of rows: their order is that of the file
    linear=_LINEAR_OF_BOTH,
    finetune={
        "MoCo-v2": {"rate": 0.01} | _MOCO | _STEPS,
        "MoCo-v3": {"rate": 0.1} | _MOCO | _FROZEN_POSITIONS,
        "DINO": {"rate": 3e-6} | _DINO,
        "DINO vit": {"rate": 3e-5} | _DINO,
        "MAE": {"rate": 0.1, "warmup": 10} | _MAE,
        "data2vec": {"rate": 1e-3} | _DATA2VEC | _EVERY_EPOCH,
    },
)

"""The settings of SSL4EO-S12's released code (commit 2156913c) for each task and pretraining method.

The scripts that fine-tune DINO were never released: the rates are those that its README gives, the schedule is that of
its linear probes. The scripts that should fine-tune MoCo-v2 on EuroSAT and So2Sat, and MAE, train the head alone; here
the whole network is trained, as their names say.
"""

from ssl4eo_bench.spec.recipes import PROCESSES, Recipe

Settings = dict[str, object]

_STEPS: Settings = {"schedule": "steps"}
_LARGE: Settings = {"batch": 256 * PROCESSES, "scored_batch": 256}
_DATA2VEC: Settings = {"warmup": 10, "weight_decay": 1e-4, "layer_decay": 0.65, "scored_batch": 96}
_MAE: Settings = {"batch_norm": True}


def _recipes(smallest_crop: float, **methods: dict[str, Settings]) -> tuple[Recipe, ...]:
    """The recipes of a task, by protocol and method."""
    return tuple(
        Recipe.model_validate({"name": f"{name}-ssl4eo", "method": method, "smallest_crop": smallest_crop} | settings)
        for name, known in methods.items()
        for method, settings in known.items()
    )


BIGEARTHNET = _recipes(
    0.8,
    linear={
        "MoCo-v2": {"rate": 8.0} | _STEPS | _LARGE,
        "MoCo-v3": {"rate": 0.1},
        "DINO": {"rate": 0.1},
        "MAE": {"rate": 1.0} | _MAE,
        "data2vec": {"rate": 1e-3} | _DATA2VEC,
    },
    finetune={
        "MoCo-v2": {"rate": 0.1},
        "MoCo-v3": {"rate": 0.01},
        "DINO": {"rate": 0.01},
        "MAE": {"rate": 0.1, "warmup": 10},
        "data2vec": {"rate": 1e-3} | _DATA2VEC,
    },
)
_LINEAR_OF_BOTH: dict[str, Settings] = {
    "MoCo-v2": {"rate": 8.0} | _STEPS,
    "MoCo-v3": {"rate": 0.1},
    "DINO": {"rate": 0.01},
    "MAE": {"rate": 0.1} | _MAE,
    "data2vec": {"rate": 0.1} | _DATA2VEC,
}
EUROSAT = _recipes(
    0.08,
    linear=_LINEAR_OF_BOTH,
    finetune={
        "MoCo-v2": {"rate": 0.1} | _STEPS,
        "MoCo-v3": {"rate": 0.1},
        "DINO": {"rate": 0.001},
        "MAE": {"rate": 0.1, "warmup": 10, "weight_decay": 1e-4},
        "data2vec": {"rate": 1e-3} | _DATA2VEC,
    },
)
SO2SAT = _recipes(
    0.08,
    linear=_LINEAR_OF_BOTH,
    finetune={
        "MoCo-v2": {"rate": 0.01} | _STEPS,
        "MoCo-v3": {"rate": 0.1},
        "DINO": {"rate": 3e-6},
        "MAE": {"rate": 0.1, "warmup": 10, "weight_decay": 1e-4},
        "data2vec": {"rate": 1e-3} | _DATA2VEC,
    },
)

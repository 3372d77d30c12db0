"""Hooks that log each new result: `ssl4eo_bench.run(..., on_result=log_to_wandb)`."""

from ssl4eo_bench.results.files import RunResult


def log_to_wandb(result: RunResult) -> None:
    """Log a result as a run of Weights & Biases."""
    import wandb

    spec = result.spec
    name = f"{spec.task_slug} {spec.protocol_slug} {spec.label}"
    with wandb.init(project="ssl4eo-bench", name=name, config=spec.model_dump(mode="json")) as run:
        for split, found in result.metrics.items():
            run.log({f"{split}/{name}": value.value for name, value in found.items()})
        run.summary["digest"] = result.digest


def log_to_mlflow(result: RunResult) -> None:
    """Log a result as a run of MLflow."""
    import mlflow

    spec = result.spec
    with mlflow.start_run(run_name=f"{spec.task_slug} {spec.protocol_slug} {spec.label}"):
        mlflow.log_params({"task": spec.task_slug, "protocol": spec.protocol_slug, "digest": result.digest})
        for split, found in result.metrics.items():
            mlflow.log_metrics({f"{split}_{name}": value.value for name, value in found.items()})

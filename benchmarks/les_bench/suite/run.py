"""One training and its evaluation, in a folder of its own, with one result."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from les.backends import Backend
from les_bench.suite import consistency, machine, metrics, results
from les_bench.suite.curve import Curve, breaks, curve_so_far, digest, position
from les_bench.suite.evaluate import (
    count_parameters,
    evaluate,
    evaluate_response,
    predict,
)
from les_bench.suite.workspace import Workspace, median_seconds, train
from les_bench.systems.datasets import Dataset

LOG = logging.getLogger("les")

VARIANTS = ("sr", "les")


@dataclass(frozen=True)
class Run:
    """One training and its evaluation."""

    dataset: Dataset
    model: str
    variant: str
    seed: int
    epochs: int | None
    threads: int
    device: str
    dtype: str
    extra: tuple[str, ...]
    eps_inf: float | None = None
    #: Trainings at the same time, which says what times are worth; results do not depend on it.
    jobs: int = 1
    #: What the model is a control of; ``extra`` has how it is made.
    control: str = ""

    @property
    def name(self) -> str:
        data = self.dataset
        fraction = data.fraction
        names = data.system.name, data.source, self.model, self.variant
        return run_name(*names, self.seed, fraction=fraction, control=self.control)

    def configuration(self, backend: Backend) -> dict[str, Any]:
        """Everything that decides the outcome; equal configurations are the same run."""
        sets = ["train", "valid", "test"] + ["response"] * bool(self.dataset.response)
        optional: dict[str, Any] = {} if self.eps_inf is None else {"eps_inf": self.eps_inf}
        if self.dataset.fraction != 1:
            optional["fraction"] = self.dataset.fraction
        if self.control:
            optional["control"] = self.control
        return {
            **optional,
            "system": self.dataset.system.name,
            "source": self.dataset.source,
            "checksums": self.dataset.checksums,
            "n_structures": {split: len(getattr(self.dataset, split)) for split in sets},
            "versions": machine.versions(backend),
            "model": self.model,
            "variant": self.variant,
            "seed": self.seed,
            "epochs": self.epochs,
            "threads": self.threads,
            "device": self.device,
            "dtype": self.dtype,
            "extra": list(self.extra),
            "config_file": config_file(backend, self.dataset.system.config).read_text(),
        }


def run_name(
    system: str,
    source: str,
    model: str,
    variant: str,
    seed: int,
    *,
    fraction: float = 1.0,
    control: str = "",
) -> str:
    """The name of a run, which is that of its folder."""
    share = "" if fraction == 1 else f"-{100 * fraction:g}percent"
    which = control and f"-{control.replace(' ', '_')}"
    return f"{system}-{source}{share}-{model}{which}-{variant}-seed{seed}"


def config_file(backend: Backend, name: str) -> Path:
    """The adapter's training configuration ``name``."""
    configs = backend.configs()
    if name not in configs:
        raise ValueError(
            f"backend {backend.name!r} has no configuration {name!r} (it has: {', '.join(configs)})"
        )
    return configs[name]


def execute(run: Run, backend: Backend, output: Path, tell: Callable[[str], None]) -> None:
    """Carry out one run, or what is left of it, in a folder of its own in ``output``.

    ``tell`` is told now and then how far the training is.
    """
    configuration = run.configuration(backend)
    identity = results.configuration_hash(configuration)
    workspace = Workspace.open(output, run.name, identity)
    path = workspace.folder / results.RESULT
    if path.exists():
        try:
            if results.read_result(path)["hash"] == identity:
                LOG.info("%s: already done", run.name)
                return
            problem = f"{path} is the result of another configuration"
        except results.ResultError as error:
            problem = str(error)
        aside = path.with_name(path.name + ".bad")
        LOG.warning("%s; kept as %s and redone", problem, aside.name)
        path.replace(aside)

    job = workspace.job(
        run.dataset,
        config=config_file(backend, run.dataset.system.config),
        seed=run.seed,
        epochs=run.epochs,
        device=run.device,
        extra=run.extra,
    )
    if workspace.trained:
        LOG.info("%s: training is done already", run.name)
    else:
        n_before = len(curve_so_far(backend, job))

        def watch(curve: Curve, seconds: float) -> None:
            place = position(curve, run.epochs, seconds, n_before)
            tell(f"{run.name}: {place}" if place else run.name)

        les = run.variant == "les"
        train(backend, job, workspace, les=les, threads=run.threads, watch=watch)
    history = [dataclasses.asdict(record) for record in backend.history(job)]
    attempts = [*workspace.state.get("curves", []), digest(curve_so_far(backend, job))]
    warnings = breaks(attempts, history)
    for warning in warnings:
        LOG.warning("%s: %s", run.name, warning)
    sets, checks, n_parameters = _evaluate(run, backend, backend.trained_model(job))
    measured = {split: metrics.compute(arrays) for split, arrays in sets.items()}
    results.write_predictions(workspace.folder / results.PREDICTIONS, sets)
    results.write_json(
        path,
        {
            "schema": results.SCHEMA,
            "name": run.name,
            "hash": identity,
            # Runs that differ in seed and variant only can be compared.
            "group": results.configuration_hash({**configuration, "seed": 0, "variant": ""}),
            "configuration": configuration,
            "versions": machine.versions(backend),
            "machine": {**machine.describe(run.threads, run.device), "jobs": run.jobs},
            "data": {
                "source": run.dataset.source,
                "checksums": run.dataset.checksums,
                "energy_offsets": run.dataset.energy_offsets,
                "largest_distance": run.dataset.largest_distance,
                "electrostatic": run.dataset.system.electrostatic,
            },
            "warnings": warnings,
            "n_parameters": n_parameters,
            "units": {**metrics.UNITS, **consistency.UNITS},
            "metrics": measured,
            "consistency": checks,
            "history": history,
            "timing": {
                "seconds_per_epoch": median_seconds(history),
                "seconds_per_structure": measured["test"]["seconds_per_structure"],
                **workspace.timing(),
            },
        },
    )
    test = measured["test"]
    LOG.info(
        "%s: test RMSE %.2f meV/atom, %.1f meV/A", run.name, test["energy_rmse"], test["force_rmse"]
    )


def _evaluate(
    run: Run, backend: Backend, model: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, float], int | None]:
    """Predictions on all sets but that for training, checks, and the number of parameters."""
    import torch  # here: reports must not wait for it

    torch.set_num_threads(run.threads)

    les = run.variant == "les"
    scale: dict[str, Any] = {"eps_inf": run.eps_inf} if les and run.eps_inf is not None else {}

    def calculator(**options: Any) -> Any:
        # The pickle, if it is one, was written by this very run.
        return backend.calculator(
            model, device=run.device, dtype=run.dtype, allow_pickle=True, **scale, **options
        )

    plain = calculator()
    sets = {
        split: evaluate(
            getattr(run.dataset, split),
            plain,
            les=les,
            bec_calculator=lambda: calculator(bec=True),
        )
        for split in ("valid", "test")
    }
    if les and run.dataset.response:
        sets["response"] = evaluate_response(run.dataset.response, calculator(bec=True))
    # Of the smallest test structure: what symmetries are worth does not depend on the size.
    smallest = min(run.dataset.test, key=len)
    checks = consistency.check(smallest, lambda atoms: predict(atoms, plain))
    return sets, checks, count_parameters(plain)

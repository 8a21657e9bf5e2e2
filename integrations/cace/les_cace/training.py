"""``les train cace``: CACE on extxyz files, with and without LES."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, cast

import torch

from les.config import LESConfig
from les.data.labels import LabelKeys
from les.data.requirements import Requirements
from les.devices import resolve_device
from les.files import replacing
from les.keys import refuse_unknown
from les.response.labels import RESPONSES
from les.training.arguments import label_keys
from les.training.charge_start import fixed_at_first, start_charges, starts_from_elements
from les.training.closing import close, labelled_sets
from les.training.freezing import set_random_charges
from les.training.history import fitting, plain_state
from les.training.loaders import make_loaders
from les.training.loop import Loop
from les.training.responses import check_responses, response_weights
from les.training.stages import to_stages
from les_cace.arguments import LABELS, parse
from les_cace.checkpoint import load_model, model_content, model_from, read
from les_cace.checks import check_elements, check_positive
from les_cace.data import LabelledStructures, collate_labelled, compare
from les_cace.model import CACE
from les_cace.outset import fit_atomic_energies, orient
from les_cace.representation import DEFAULT_CUTOFF, Representation

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from torch import nn

    from les.training.backend import TrainingBackend
    from les.training.run import TrainingRun

logger = logging.getLogger("les")


#: Keys of the option ``--readout``.
READOUT = ("n_layers", "n_hidden", "add_linear_nn")


def train(arguments: Sequence[str], *, les: bool, backend: TrainingBackend) -> None:
    """Carry out ``les train cace`` with ``arguments`` (see ``les_cace.arguments``).

    Raises:
        DataError: for files and labels that cannot be trained on.
        ValueError: for options that contradict each other or an earlier run.
    """
    backend.carry_out(_train, parse(arguments, les=les), les=les)


def _train(run: TrainingRun) -> None:
    """Train, from the start or after the last epoch of an earlier run."""
    options, files = run.options, run.files
    device = resolve_device(options.device)
    if options.start is not None and (options.model is not None or options.readout is not None):
        raise ValueError(
            "--from excludes --model and --readout, also in --config: the model has its own; "
            "take them out"
        )
    responses = response_weights(options)
    stages = to_stages(options.stages, options.epochs, **responses)
    labels = [label for label in LABELS if any(stage.weights.get(label) for stage in stages)]
    torch.manual_seed(options.seed)
    state = None
    if run.continued:
        state = run.state(read, Loop.PARTS)
        model = model_from(state["model"], files.checkpoint)
        config = model.les_config
        data = _read(options, labels, model, config, responses)
    else:
        start = None
        if options.start is not None:
            start = load_model(options.start, allow_pickle=options.allow_pickle)
        config = _les_config(options, start, run.les)
        check_responses(responses, config)
        data = _read(options, labels, start, config, responses)
        model = _model(options, data["train"], start, run.les)
        if responses or any(each.has_charged for each in data.values()):
            orient(model, data["train"])
    model.to(device)
    if _has_random_charges(options):
        for parameter in model.charge_parameters():
            parameter.requires_grad = False
    loop = Loop(
        model,
        compare,
        lambda trained: model_content(cast("CACE", trained)),
        files,
        stages,
        run.settings(),
        learning_rate=options.learning_rate,
        scheduler=options.scheduler,
        patience=options.patience,
        ema_decay=options.ema_decay,
        frozen=fixed_at_first(
            model,
            model.charge_readout,
            model.charge_parameters(),
            sum(stage.epochs for stage in stages),
            short_range_epochs=options.freeze_short_range_epochs if run.les else None,
            starts=_starts_charges(model, options, data["train"]),
        ),
        settle=_fit(options, data["train"]),
        charges=model.charge_parameters(),
        charge_learning_rate=options.charge_learning_rate if run.les else None,
    )
    if state is not None:
        with fitting(files.checkpoint):
            loop.load_state(state)
        logger.info("continuing after epoch %d", loop.n_done)
    loaders = make_loaders(data, options, loop.n_done, collate_labelled)
    loop.train(loaders["train"], loaders["valid"])
    with plain_state(files.best):
        content = read(files.best)
    with replacing(files.model) as temporary:
        torch.save(content, temporary)
    sets = labelled_sets(
        options,
        labels,
        keys=label_keys(options, (*LABELS, *RESPONSES)),
        requirements=Requirements.of(config),
        responses=tuple(responses),
        responses_needed=False,
    )
    close(run.backend, files.model, sets, device=str(device), bec="bec" in responses)


def _read(
    options: argparse.Namespace,
    labels: Sequence[str],
    start: CACE | None,
    config: LESConfig | None,
    responses: Collection[str],
) -> dict[str, LabelledStructures]:
    given = options.model or {}
    zs = check_elements(given["zs"]) if "zs" in given else None
    cutoff = check_positive("cutoff", given.get("cutoff", DEFAULT_CUTOFF))
    if start is not None:
        zs, cutoff = start.representation.zs, start.cutoff
    keys = LabelKeys(label_keys(options, (*LABELS, *RESPONSES)))

    def read(
        path: Path, elements: Sequence[int] | None, responses_needed: bool = True
    ) -> LabelledStructures:
        return LabelledStructures(
            path,
            cutoff,
            labels,
            Requirements.of(config, elements),
            keys,
            responses=tuple(responses),
            responses_needed=responses_needed,
        )

    data = {"train": read(options.train_file, zs)}
    zs = zs or data["train"].elements
    for name in ("valid", "test"):
        path = getattr(options, f"{name}_file")
        if path is not None:
            data[name] = read(path, zs, responses_needed=name != "test")
    return data


def _les_config(options: argparse.Namespace, start: CACE | None, les: bool) -> LESConfig | None:
    """How the model to be trained does its long-range part, ``None`` without LES."""
    if start is not None and start.les_config is not None:
        return start.les_config
    return LESConfig.for_features(options.les_arguments, 1, several_channels=True) if les else None


def _model(
    options: argparse.Namespace, data: LabelledStructures, start: CACE | None, les: bool
) -> CACE:
    """The model to start from: with and without LES the same, but for the charges."""
    les_arguments = (options.les_arguments or {}) if les else None
    if start is None:
        representation = {"zs": data.elements, **(options.model or {})}
        readout = options.readout or {}
        refuse_unknown(representation, set(inspect.signature(Representation).parameters))
        refuse_unknown(readout, READOUT)
        # The charges come last, so that the rest has the same weights without them.
        model = CACE(representation, les_arguments, **readout)
    else:
        model = _extended(start, les_arguments, options)
    if _has_random_charges(options):
        assert model.charge_readout is not None
        set_random_charges(model.charge_readout)
    if _starts_charges(model, options, data):
        assert model.charge_readout is not None
        start_charges(model.charge_readout, model.representation.zs)
    model = model.copy(getattr(torch, options.dtype), "cpu")
    fit = _fit(options, data)
    if fit is not None:
        fit(model)
    return model


def _fit(
    options: argparse.Namespace, data: LabelledStructures
) -> Callable[[nn.Module], None] | None:
    """What fits the reference energies of a model, if that is asked for."""
    if options.atomic_energies != "fit" or "energy" not in data.labels:
        return None
    return lambda model: fit_atomic_energies(cast("CACE", model), data, options.valid_batch_size)


def _starts_charges(model: CACE, options: argparse.Namespace, data: LabelledStructures) -> bool:
    """Whether charges start at those of elements: not those that are added to a trained model."""
    if options.start is not None or _has_random_charges(options):
        return False
    structures = (structure.numbers for structure, _ in data.items)
    return starts_from_elements(model.charge_readout, model.les_config, structures)


def _has_random_charges(options: argparse.Namespace) -> bool:
    return getattr(options, "random_charges", False)


def _extended(
    start: CACE, les_arguments: dict[str, Any] | None, options: argparse.Namespace
) -> CACE:
    """``start``, with charges added if it has none and they are asked for."""
    if start.les_config is not None:
        if les_arguments is None:
            raise ValueError(f"--from {options.start} has charges; train it with --les")
        if les_arguments:
            raise ValueError(f"--from {options.start} has charges and --les_arguments of its own")
        return start
    if les_arguments is None:
        return start
    model = CACE(**{**start.arguments, "les_arguments": les_arguments})
    model = model.copy(start.representation.sender_embedding.dtype, "cpu")
    model.load_state_dict({**model.state_dict(), **start.state_dict()})
    return model

"""``les train chgnet``: upstream's Trainer on extxyz files, with and without LES."""

from __future__ import annotations

import contextlib
import copy
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from chgnet.data.dataset import collate_graphs
from chgnet.model import CHGNet
from chgnet.model.composition_model import AtomRef
from chgnet.trainer import Trainer

from les.data.atoms import ANY_AXES, LONG_RANGE_AXES
from les.data.labels import LabelKeys
from les.data.requirements import Requirements
from les.element_baselines import N_ATOMIC_NUMBERS
from les.files import writing
from les.keys import refuse_unknown
from les.response.labels import RESPONSES
from les.training.arguments import label_keys
from les.training.charge_start import fixed_at_first, start_charges, starts_from_elements
from les.training.closing import close, labelled_sets
from les.training.freezing import FrozenParameters
from les.training.history import fitting, plain_state
from les.training.loaders import make_loaders
from les.training.responses import check_responses, response_weights
from les_chgnet.arguments import RATIOS, parse, training_stages
from les_chgnet.checkpoint import load_model, model_from, save_model
from les_chgnet.data import LABELS, LabelledGraphs
from les_chgnet.device import chgnet_device
from les_chgnet.graphs import GraphConverter
from les_chgnet.model import CHGNetLES
from les_chgnet.model_arguments import refuse_unknown_arguments
from les_chgnet.outset import fit_atomic_energies, orient
from les_chgnet.stored import read_checkpoint
from les_chgnet.trainer import ResumableTrainer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from les.config import LESConfig
    from les.training.backend import TrainingBackend
    from les.training.closing import Frames
    from les.training.files import RunFiles
    from les.training.run import TrainingRun

logger = logging.getLogger("les")

#: Arguments of upstream's Trainer that are options here.
OPTIONS_OF_TRAINER = ("targets", "learning_rate", *RATIOS.values())


#: What upstream takes among its further keyword arguments.
FURTHER_OF_TRAINER = frozenset({"weight_decay", "momentum", "delta", "scheduler_params"})

#: Learning rate of new charges on a trained model, relative to that of the model: at its own,
#: a short fine-tuning ends before the charges have become large enough to matter.
NEW_CHARGES = 10.0


def train(
    arguments: Sequence[str], *, les: bool, backend: TrainingBackend, start: str | None = None
) -> None:
    """Carry out ``les train chgnet`` with ``arguments`` (see ``les_chgnet.arguments``).

    ``start`` is the model to start from if ``arguments`` name none.

    Raises:
        DataError: for files and labels that cannot be trained on.
        ValueError: for options that contradict each other or an earlier run.
    """
    backend.carry_out(_train, parse(arguments, les=les, start=start), les=les)


def _train(run: TrainingRun) -> None:
    """Train, from the start or after the last epoch of an earlier run."""
    options, files = run.options, run.files
    device = chgnet_device(options.device)
    axes = LONG_RANGE_AXES if run.les else ANY_AXES
    with writing(files.log), files.log.open("a") as log, contextlib.redirect_stdout(log):
        torch.manual_seed(options.seed)
        state = None
        if run.continued:
            state = run.state(read_checkpoint, ResumableTrainer.PARTS)
            model = model_from(state, files.checkpoint)
            with fitting(files.checkpoint):
                charge_learning_rate = ResumableTrainer.charge_learning_rate(state)
        else:
            model, charge_learning_rate = _model(options, run.les)
        model.to(device)
        responses = response_weights(options)
        charges = model.les.config() if isinstance(model, CHGNetLES) else None
        check_responses(responses, charges)
        keys = LabelKeys(label_keys(options, (*LABELS.values(), *RESPONSES)))
        data = {
            split: LabelledGraphs(
                path,
                GraphConverter.like(model.graph_converter),
                options.targets,
                keys,
                axes=axes,
                responses=tuple(responses),
                responses_needed=split != "test",
            )
            for split in ("train", "valid", "test")
            if (path := getattr(options, f"{split}_file")) is not None
        }
        frozen: FrozenParameters | None = None
        if isinstance(model, CHGNetLES):
            starts = _starts_charges(model, options, data["train"])
            if starts and state is None:
                assert model.les.atomwise is not None
                start_charges(model.les.atomwise, range(N_ATOMIC_NUMBERS))
            frozen = fixed_at_first(
                model,
                model.les.atomwise,
                model.les.parameters(),
                sum(stage.epochs for stage in training_stages(options)),
                short_range_epochs=options.freeze_short_range_epochs,
                starts=starts,
            )
        fit = partial(fit_atomic_energies, data=data["train"], batch_size=options.valid_batch_size)
        settle = None if options.atomic_energies == "keep" else fit
        trainer = _trainer(
            model, options, files, run.settings(), charge_learning_rate, frozen, settle
        )
        if state is not None:
            with fitting(files.checkpoint):
                trainer.load_state(state)
            logger.info("continuing after epoch %d", trainer.starting_epoch)
        charged = any(each.has_charged for each in data.values())
        if state is None and (responses or charged):
            orient(model, data["train"])
        if state is None and settle is not None:
            settle(model)
        loaders = make_loaders(data, options, trainer.starting_epoch, collate_graphs)
        trainer.train(
            loaders["train"],
            loaders["valid"],
            train_composition_model=options.atomic_energies == "train",
        )
        with plain_state(files.best):
            best = read_checkpoint(files.best)
        trainer.model.load_state_dict(best["model"]["state_dict"])
        save_model(trainer.model, files.model)
    sets = labelled(options, charges)
    close(run.backend, files.model, sets, device=str(device), bec="bec" in responses)


def labelled(options: argparse.Namespace, config: LESConfig | None) -> dict[str, Frames]:
    """The labelled frames to compare with at the end."""
    required = [LABELS[letter] for letter in options.targets if letter != "m"]
    optional = ["magmoms"] * ("m" in options.targets)
    return labelled_sets(
        options,
        required,
        optional=optional,
        keys=label_keys(options, (*LABELS.values(), *RESPONSES)),
        requirements=Requirements.of(config),
        responses=tuple(response_weights(options)),
        responses_needed=False,
    )


def _model(options: argparse.Namespace, les: bool) -> tuple[CHGNet, float | None]:
    """The model to start from, and the learning rate of its charges if that is one of their own.

    With and without LES the model is the same, but for the charges.
    """
    charge_learning_rate = options.charge_learning_rate if les else None
    if options.start is None:
        settings = options.model or {}
        refuse_unknown_arguments(settings)
        with _named("--model", settings):
            model = CHGNet(**settings)
    elif options.model is not None:
        raise ValueError("--from and --model exclude each other: the model has its architecture")
    else:
        # Upstream's Trainer and targets are in single precision.
        model = load_model(options.start, allow_pickle=options.allow_pickle).float()
    if not model.is_intensive:
        raise ValueError("`is_intensive` must be true: the labels are energies per atom")
    if not isinstance(model.composition_model, AtomRef):
        raise ValueError(
            "`composition_model` must hold reference energies (AtomRef) to be trained, got "
            f"{type(model.composition_model).__name__}"
        )
    if isinstance(model, CHGNetLES):
        if not les:
            raise ValueError(f"--from {options.start} has charges; train it with --les")
        if options.les_arguments:
            raise ValueError(f"--from {options.start} has charges and --les_arguments of its own")
        return model, charge_learning_rate
    if not les:
        return model, None
    if options.start is not None and charge_learning_rate is None:
        charge_learning_rate = NEW_CHARGES * options.learning_rate
    return CHGNetLES.from_short_range(model, options.les_arguments), charge_learning_rate


@contextlib.contextmanager
def _named(option: str, value: object) -> Iterator[None]:
    """Name the option that upstream's own errors are about."""
    try:
        yield
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = str(error) or "not supported by upstream"
        raise ValueError(f"{option} {value}: {type(error).__name__}: {reason}") from error


def _trainer(
    model: CHGNet,
    options: argparse.Namespace,
    files: RunFiles,
    settings: dict[str, Any],
    charge_learning_rate: float | None,
    frozen: FrozenParameters | None,
    settle: Callable[[CHGNet], None] | None,
) -> ResumableTrainer:
    further = copy.deepcopy(options.trainer or {})  # upstream takes parts of it out
    reserved = {
        *OPTIONS_OF_TRAINER,
        "epochs",
        "model",
        "use_device",
        "starting_epoch",
        "self",
        "kwargs",
    }
    signature = set(inspect.signature(Trainer.__init__).parameters) - reserved
    refuse_unknown(further, signature | FURTHER_OF_TRAINER)
    with _named("--trainer", options.trainer):
        return ResumableTrainer(
            model,
            files=files,
            settings=settings,
            charge_learning_rate=charge_learning_rate,
            responses=response_weights(options),
            stages=training_stages(options),
            frozen=frozen,
            settle=settle,
            use_device=str(next(model.parameters()).device),
            **{name: getattr(options, name) for name in OPTIONS_OF_TRAINER},
            **further,
        )


def _starts_charges(model: CHGNetLES, options: argparse.Namespace, data: LabelledGraphs) -> bool:
    """Whether charges start at those of elements: not those that are added to a trained model."""
    if options.start is not None:
        return False
    structures = (graph.atomic_number for graph in data.graphs)
    return starts_from_elements(model.les.atomwise, model.les.config(), structures)

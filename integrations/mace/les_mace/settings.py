"""What a continued run must agree with, kept beside the checkpoints.

The checkpoints of mace-torch (0.3.16) hold weights and the state of the optimizer only: with other
data, another loss or other settings of LES it goes on with them without a word.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from les.files import replacing
from les.training.files import CHECKSUMS, MAY_CHANGE, agreed_settings
from les.training.history import refuse_other_settings

logger = logging.getLogger("les")

#: Options of upstream that say where files are, what is reported, and when the run ends: the
#: epochs that are done would have been the same.
MAY_CHANGE_UPSTREAM = frozenset(
    {
        *("checkpoints_dir", "downloads_dir", "log_dir", "model_dir", "results_dir"),
        *("error_table", "log_level", "plot", "plot_frequency", "plot_interaction_e"),
        *("multi_processed_test", "skip_evaluate_heads", "test_dir"),
        *("num_workers", "pin_memory", "launcher"),
        *("wandb", "wandb_dir", "wandb_entity", "wandb_log_hypers", "wandb_name", "wandb_project"),
        *("dry_run", "keep_checkpoints", "restart_latest", "save_all_checkpoints", "save_cpu"),
        *("max_num_epochs", "patience"),
        "les_given",
    }
)

#: Options that count by the contents of their files.
BY_CONTENT = (*CHECKSUMS, "pt_train_file", "pt_valid_file", "statistics_file")


def settings_of(options: argparse.Namespace, *, les: bool) -> dict[str, Any]:
    """What a run that continues this one must agree with, as values of JSON.

    Args:
        options: of ``les_mace.arguments.parse``, before upstream or a start changes them.
        les: whether the model has charges.
    """
    values = dict(vars(options))
    if not values["responses"]:  # an option of its own, and none of older runs
        del values["responses"]
    if values["external_field_key"] is None:
        del values["external_field_key"]
    if values["atomic_energies"] == "fit":
        del values["atomic_energies"]
    values["swa"] = options.swa or options.start_swa is not None
    if values["swa"] and options.start_swa is None:  # upstream's default follows the epochs
        values["start_swa"] = max(1, options.max_num_epochs // 4 * 3)
    kept = agreed_settings(
        values, les, may_change=MAY_CHANGE | MAY_CHANGE_UPSTREAM, by_content=BY_CONTENT
    )
    plain: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return plain


def agree(path: Path, settings: Mapping[str, Any], *, continued: bool) -> None:
    """Compare a run that is continued with its settings in ``path``; write those of a new one.

    Raises:
        ValueError: if the settings or the contents of data files differ, or the file is damaged.
    """
    if continued and path.exists():
        refuse_other_settings({"settings": _read(path)}, settings, path, by_content=BY_CONTENT)
        return
    if continued:
        logger.warning(
            "there is no %s: whether the run had the same settings and data before is not known",
            path,
        )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged: {error}; remove it to continue without a comparison of settings"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold settings by name, got a {type(content).__name__}")
    return content

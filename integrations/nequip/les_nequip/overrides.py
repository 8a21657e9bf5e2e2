"""Values in the grammar of Hydra's overrides."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf


def override_text(value: Any) -> str:
    """``value`` in the grammar of Hydra's overrides; interpolations stay interpolations."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{override_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(override_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    # Hydra takes a backslash for itself only before a quote and at the end.
    text = str(value).replace("\\'", "\\\\'").replace("'", "\\'")
    return f"'{text}'"


def set_section(key: str, value: Any, *, exists: bool) -> list[str]:
    """Overrides that put ``value`` at ``key``, in place of what is there if it ``exists``."""
    # Hydra merges a dictionary into one that is there, so that goes first.
    return [f"~{key}"] * exists + [f"+{key}={override_text(value)}"]


def add_callback(config: DictConfig, callback: dict[str, Any]) -> list[str]:
    """Overrides of ``config`` that put ``callback`` after those of its trainer."""
    callbacks = OmegaConf.select(config, "trainer.callbacks")
    plain = [] if callbacks is None else list(OmegaConf.to_container(callbacks, resolve=False))
    return set_section("trainer.callbacks", [*plain, callback], exists=callbacks is not None)

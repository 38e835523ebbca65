"""Token ids in, logits out: the SAMBA model, its state, tokenizer and checkpoints.

What is named here is imported when it is asked for: reading a config.json
(`samba_cli.model.architectures`) needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samba_cli.model.checkpoint import (
        default_model_path,
        load_checkpoint,
        load_for_reading,
        save_checkpoint,
    )
    from samba_cli.model.config import SambaConfig
    from samba_cli.model.network import Model
    from samba_cli.model.samba import Samba
    from samba_cli.model.state import State, StateError
    from samba_cli.model.tokenizer import Tokenizer
    from samba_cli.model.weight_files import CheckpointError

__all__ = [
    "CheckpointError",
    "Model",
    "Samba",
    "SambaConfig",
    "State",
    "StateError",
    "Tokenizer",
    "default_model_path",
    "load_checkpoint",
    "load_for_reading",
    "save_checkpoint",
]

_HOMES = {
    "CheckpointError": "weight_files",
    "Model": "network",
    "Samba": "samba",
    "SambaConfig": "config",
    "State": "state",
    "StateError": "state",
    "Tokenizer": "tokenizer",
    "default_model_path": "checkpoint",
    "load_checkpoint": "checkpoint",
    "load_for_reading": "checkpoint",
    "save_checkpoint": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value

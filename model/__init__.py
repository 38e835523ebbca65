"""Token ids in, logits out: the SAMBA model, its state, tokenizer and checkpoints."""

from samba_cli.model.checkpoint import (
    CheckpointError,
    default_model_path,
    load_checkpoint,
    save_checkpoint,
)
from samba_cli.model.config import SambaConfig
from samba_cli.model.samba import Samba
from samba_cli.model.state import State, StateError
from samba_cli.model.tokenizer import Tokenizer

__all__ = [
    "CheckpointError",
    "Samba",
    "SambaConfig",
    "State",
    "StateError",
    "Tokenizer",
    "default_model_path",
    "load_checkpoint",
    "save_checkpoint",
]

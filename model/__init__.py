"""Token ids in, logits out: the SAMBA model, its state, tokenizer and checkpoints."""

from samba_cli.model.checkpoint import default_model_path, load_checkpoint, save_checkpoint
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
    "save_checkpoint",
]

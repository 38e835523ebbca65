"""The families of checkpoints that can be read, by the `model_type` of their config.json.

No torch here: a download is refused by this list before its weights are fetched.
"""

from __future__ import annotations

KNOWN: tuple[str, ...] = (
    "samba",
    "mamba",
    "falcon_mamba",
    "jamba",
    "mamba2",
    "bamba",
    "granitemoehybrid",
)


def known(model_type: str) -> bool:
    return model_type in KNOWN

"""The model of this command: found, checked and loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samba_cli import models, streams
from samba_cli.config import Settings
from samba_cli.errors import DeviceError, ModelError
from samba_cli.units import count_text

if TYPE_CHECKING:
    from samba_cli.model import Model, Tokenizer

BUILT_IN = "samba (built in)"
_TOKENIZER = "tokenizer.json"
_WEIGHTS = (models.WEIGHTS, models.INDEX, models.PICKLE)  # any one of them will do


@dataclass(frozen=True)
class Session:
    model: Model
    tokenizer: Tokenizer
    folder: str | None  # of the checkpoint; None is the model that comes with the program
    device: str  # "cpu", "cuda:0"
    quantize: str = "none"
    window: int = 0  # that bounds its full attention; 0: nothing does
    warnings: tuple[str, ...] = ()  # what a person should know about its answers

    @property
    def name(self) -> str:
        return Path(self.folder).name if self.folder else BUILT_IN


def open_session(settings: Settings, quiet: bool) -> Session:
    """Load the model the settings name.

    Raises ModelError for a checkpoint that is missing or damaged, DeviceError where the device
    is not there.
    """
    given = _checkpoint_folder(settings.model)
    folder = given or models.BUILT_IN_FOLDER
    name = given.name if given else BUILT_IN
    with streams.Status(quiet) as status:
        # Said before torch is imported: seconds may pass.
        status.say(f"loading model {name} ...", in_pipes=True)
        import torch

        from samba_cli.dialect import dialect_of
        from samba_cli.model import CheckpointError, Tokenizer, load_for_reading
        from samba_cli.model.checkpoint import read_config

        device = _device(settings.device)
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
        dtype = dtypes.get(settings.dtype)
        try:
            grows = read_config(folder).description.state_bytes(1)[1] > 0
            window = settings.window if grows else 0  # nothing else is bounded by it
            model = load_for_reading(folder, device, dtype, settings.quantize, window or None)
            tokenizer = Tokenizer.load(folder)
        except CheckpointError as error:
            pulled = given is not None and given.parent == models.models_folder()
            hint = f"; check its files with: samba models show {name} --verify" if pulled else ""
            raise ModelError(f"cannot load the model: {error}{hint}") from error
        except ValueError as error:  # the tokenizer
            raise ModelError(f"cannot load the tokenizer: {error}") from error
    rows = model.description.vocab_size
    if tokenizer.highest_id >= rows:
        raise ModelError(
            f"the tokenizer in {folder} is not this model's: it has a token number "
            f"{tokenizer.highest_id}, and the model knows {rows} tokens"
        )
    if device != "cpu":
        from samba_cli.model.ahead import compile_ahead

        compile_ahead(model)
    dialect_of(tokenizer)  # a chat template that cannot be used is told before anything is read
    return Session(
        model, tokenizer, str(given) if given else None, device, settings.quantize, window,
        (_lossy(window),) if window else (),
    )  # fmt: skip


def _lossy(window: int) -> str:
    return (
        f"--window {window} is lossy: full attention sees the last {count_text(window)} tokens "
        "and the first 4; what lies between is left to the recurrent layers"
    )


def _checkpoint_folder(setting: str | None) -> Path | None:
    """The folder, checked without torch, so that a slip in --model is told at once.

    A model of the store goes before a folder of that name, so that where a command runs does not
    change which model is the default; "./name" is always a folder. None is the built-in model.
    """
    if setting is None or setting == models.BUILT_IN:
        folder = models.BUILT_IN_FOLDER
        if not (folder / models.WEIGHTS).is_file():
            raise ModelError(
                f"the built-in model is missing ({folder}); install samba again or give --model"
            )
        return None
    if pulled := models.find(setting):
        _check_files(pulled.folder, f"model '{pulled.name}'")
        return pulled.folder
    folder = Path(setting)
    if not folder.exists():
        if folder.is_absolute() or setting.startswith(".") or setting.count("/") > 1:
            hint = "give --model the folder of a checkpoint, or a model that was pulled"
            raise ModelError(f"there is no model at {setting}; {hint}")
        raise ModelError(models.missing(setting))
    if not folder.is_dir():
        raise ModelError(f"{setting} is not a folder; give --model the folder of a checkpoint")
    _check_files(folder, setting)
    return folder


def _check_files(folder: Path, name: str) -> None:
    for file in (models.CONFIG, _TOKENIZER):
        if not (folder / file).is_file():
            # Some repositories hold none: the original Mamba ones leave it to another.
            hint = "; put the one it was trained with there" if file == _TOKENIZER else ""
            raise ModelError(f"{name} is not a whole checkpoint: {folder} has no {file}{hint}")
    if not any((folder / file).is_file() for file in _WEIGHTS):
        files = f"{models.WEIGHTS}, nor {models.INDEX}"
        raise ModelError(f"{name} is not a whole checkpoint: {folder} has no {files}")


def _device(setting: str) -> str:
    import torch

    if setting == "cpu":
        return "cpu"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if setting == "auto":
        return "cuda:0" if count else "cpu"
    number = int(setting.partition(":")[2] or 0)
    if number >= count:
        there = f"there are {count} GPUs, counted from 0" if count else "no CUDA GPU can be used"
        raise DeviceError(f"--device {setting}: {there}; use --device cpu")
    return f"cuda:{number}"

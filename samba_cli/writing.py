"""Generating one text on a state that may be thrown away, bounded in every way."""

from __future__ import annotations

from dataclasses import dataclass

from samba_cli.model.generation import Sampling, generate
from samba_cli.model.samba import Samba
from samba_cli.model.state import State
from samba_cli.model.tokenizer import Tokenizer

# How tokenizers of other models call the end of a text.
_FOREIGN_ENDS = ("</s>", "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<eos>", "<|eot_id|>")


@dataclass(frozen=True)
class Written:
    """What was generated. `none`: the model said that there is nothing to say."""

    text: str
    none: bool


def write(
    model: Samba, tokenizer: Tokenizer, state: State, prompt: list[int], sampling: Sampling
) -> Written:
    """Read the prompt into the state and generate until the end token. The state moves."""
    control = tokenizer.control
    none = control.get("<|none|>")
    stop = {control[name] for name in ("<|end|>", *_FOREIGN_ENDS) if name in control}
    banned = [token for token in control.values() if token not in stop and token != none]
    stream, pieces = tokenizer.stream(), []
    for token in generate(model, state, prompt, sampling, stop, banned):
        if token == none:
            return Written("", none=not "".join(pieces).strip())
        pieces.append(stream.push(token))
        # A model without our end token goes on: with the next question, usually.
        if "<|end|>" not in control and "\n\n" in "".join(pieces[-4:]):
            break
    pieces.append(stream.flush())
    text = "".join(pieces).replace("�", "").strip()
    return Written(text if "<|end|>" in control else text.partition("\n\n")[0].strip(), none=False)


def replay_budget(model: Samba, taken: int) -> int:
    """Tokens of replayed passages that fit the attention window beside `taken` other tokens."""
    window = model.description.window or 2048
    return max(window - taken, window // 4)

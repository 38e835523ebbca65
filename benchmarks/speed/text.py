"""Text made from a seed: sentences of common words, rarer made-up ones, names and numbers.

Words follow Zipf's law, as in any language, and take a tokenizer about as many tokens a byte as
English does; nothing in it means anything.
"""

from __future__ import annotations

import random
from itertools import accumulate
from pathlib import Path

_COMMON = """
the of and to in a is that it was for on are with as his they be at one have this from or had by
but some what there we can out other were all your when up use how said an each she which do their
time if will way about many then them would write like so these her long make thing see him two
has look more day could go come did my no most number who over know water than people may down
side been now find any new work part take get place made live where after back little only round
year came show every good me give our under name very through just form much great think say help
before turn cause same mean differ move right boy old too does tell sentence three want well also
play small end government information company between system development different another
important education research national following against question university business community
experience president however production management international several programme particular
available therefore political condition children society interest services although possible
probably language general relationship together evidence material industry account increase
history problem process department social example nothing provide certain special century position
structure decision council result country public market control already present family support
during area policy health report minister action morning training practice official knowledge
analysis activity committee approach difficult economic property technology agreement performance
culture situation population environment
"""
_SYLLABLES = """
ka lo ri ten mar shi vel dor ba nu qui os tra pel ing er an sto mi gran
"""
COMMON, SYLLABLES = _COMMON.split(), _SYLLABLES.split()
RARE = 0.05  # share of the words that are made up: about 4 bytes a token, as English has
SENTENCES = 20_000  # made once, then put together in ever other orders


def write(path: Path, size: int, seed: int = 0) -> list[str]:
    """At least `size` bytes of text at `path`; returns some of the names in it."""
    draw = random.Random(seed)
    rare = ["".join(draw.choices(SYLLABLES, k=draw.randint(2, 3))) for _ in range(4000)]
    names = [word.title() for word in rare[:500]]
    words = COMMON + rare
    weights = list(accumulate([*_zipf(len(COMMON), 1 - RARE), *_zipf(len(rare), RARE)]))
    count = min(SENTENCES, max(20, size // 100))
    pool = [_sentence(draw, words, weights, names) for _ in range(count)]
    written, number = 0, 0
    with open(path, "w", encoding="utf-8") as file:
        while written < size:
            number += 1
            block = " ".join(draw.choices(pool, k=draw.randint(3, 9)))
            block = f"{block} In {draw.choice(names)} it was {draw.randint(2, 99_999)}.\n\n"
            if number % 40 == 1:
                block = f"## {draw.choice(names)} and {draw.choice(names)}\n\n{block}"
            written += file.write(block)  # ASCII: as many bytes as characters
    return names


def _zipf(count: int, share: float) -> list[float]:
    """How often each of so many words comes: together `share`."""
    weights = [1 / (rank + 20) for rank in range(count)]
    return [weight / sum(weights) * share for weight in weights]


def _sentence(draw: random.Random, words: list[str], weights: list[float], names: list[str]) -> str:
    chosen = draw.choices(words, cum_weights=weights, k=draw.randint(6, 28))
    if draw.random() < 0.4:
        chosen.insert(draw.randrange(len(chosen)), draw.choice(names))
    if draw.random() < 0.2:
        chosen.insert(draw.randrange(1, len(chosen)), str(draw.randint(2, 2030)))
    text = " ".join(chosen)
    return f"{text[0].upper()}{text[1:]}."

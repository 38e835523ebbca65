"""The <think> block that reasoning models write before their answer, taken off as it comes."""

from __future__ import annotations

from samba_cli.dialect import CLOSE, OPEN


class Thinking:
    """Takes text in pieces of any size, so that a tag may come in parts.

    A block stands at the beginning, or was opened by the prompt. After it all is answer: a
    second tag is text like any other.
    """

    def __init__(self, open: bool) -> None:
        self.open = open
        self.closed = False  # there was a block and it has ended
        self.thoughts = ""
        self.text = ""  # of the answer; while a block is open, what follows is unknown

    def push(self, piece: str) -> None:
        if self.closed:
            self.text += piece
            return
        if not self.open:
            self.text += piece
            if self.text.lstrip().startswith(OPEN):
                self.open, self.thoughts = True, self.text.lstrip().removeprefix(OPEN)
                self.text = ""
            elif CLOSE in self.text:  # opened without a tag
                self.open, self.thoughts, self.text = True, self.text, ""
        else:
            self.thoughts += piece
        if self.open and CLOSE in self.thoughts:
            thoughts, _, self.text = self.thoughts.partition(CLOSE)
            self.thoughts = thoughts
            self.open, self.closed = False, True

    def close(self) -> None:
        """End the block in the model's stead."""
        self.open, self.closed = False, True

"""Errors a person can act on: each carries one sentence and the program's exit code."""


class SambaError(Exception):
    """An error shown as one sentence on stderr; `code` is the exit code (see README)."""

    code = 1


class UsageError(SambaError):
    """The command line asks for something that makes no sense."""

    code = 2


class Unreadable(SambaError):
    """Nothing readable was found: missing, empty, encrypted, no text layer, binary."""

    code = 3


class ModelError(SambaError):
    """A model or memory is missing, damaged, or made by another model."""

    code = 4


class NotFoundInDocument(SambaError):
    """The document does not hold the answer (only with --fail-if-absent)."""

    code = 5


class PartlyRead(SambaError):
    """Something was skipped (only with --strict)."""

    code = 6


class DeviceError(SambaError):
    """Out of memory, or the device asked for is not there."""

    code = 7

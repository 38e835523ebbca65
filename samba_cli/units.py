"""Numbers as a person reads them."""

from __future__ import annotations

_SIZES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def count_text(number: int) -> str:
    """160689 -> "160,689"."""
    return f"{number:,}"


def bytes_text(size: float) -> str:
    """3145728 -> "3.1 MB" (decimal units, as file managers count)."""
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5:
            return f"{size:.1f} {unit}" if size < 99.5 else f"{size:.0f} {unit}"
    return f"{size / 1000:.1f} TB"


def rate_text(per_second: float) -> str:
    """21400 -> "21.4k"; 312.4 -> "312"."""
    return f"{per_second / 1000:.1f}k" if per_second >= 1000 else f"{per_second:.0f}"


def parse_size(text: str) -> int:
    """Bytes: "5M" -> 5000000. Raises ValueError."""
    value = text.strip().upper().removesuffix("B").removesuffix("I")
    unit = value[-1:] if value[-1:].isalpha() else ""
    if unit not in _SIZES:
        raise ValueError(f"{text!r} is not a size")
    size = int(float(value.removesuffix(unit)) * _SIZES[unit])
    if size < 0:
        raise ValueError(f"{text!r} is not a size")
    return size

"""The rules of a .gitignore file (gitignore(5)), exactly as git applies them while it walks.

pathspec also lets a rule for a folder decide about everything below it. That is right for a list
of paths, but not for a walk that asks at every level: with `*`, `!*/`, `!*.py` it loses files
that git keeps. So these rules speak of one path only, never of its parents.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_POSIX_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "digit": "0-9", "lower": "a-z",
    "upper": "A-Z", "space": "\\s", "xdigit": "0-9a-fA-F", "punct": "!-/:-@\\[-`{-~",
    "cntrl": "\\x00-\\x1f\\x7f", "graph": "!-~", "print": " -~",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One line: what it matches, and whether it ignores that or takes it in again."""

    pattern: re.Pattern[str]
    ignores: bool
    folders_only: bool
    by_name: bool  # matched against the last name of a path, else against the whole path


def parse_rules(text: str) -> tuple[Rule, ...]:
    """The rules of a file, in its order. Lines that can never match are passed over."""
    lines = (line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n"))
    return tuple(rule for line in lines if (rule := _rule(line)) is not None)


def decide(rules: tuple[Rule, ...], path: str, is_folder: bool) -> bool | None:
    """Whether the last rule that matches ignores the path; None where none matches.

    `path`: relative to the folder of the rules, without a slash at its end.
    """
    name = path.rpartition("/")[2]
    for rule in reversed(rules):
        if rule.folders_only and not is_folder:
            continue
        if rule.pattern.fullmatch(name if rule.by_name else path):
            return rule.ignores
    return None


def _rule(line: str) -> Rule | None:
    line = _without_trailing_spaces(line)
    if not line or line.startswith("#"):
        return None
    negated = line.startswith("!")
    line = line[1:] if negated else line
    folders_only = line.endswith("/")
    line = line[:-1] if folders_only else line
    by_name = "/" not in line
    line = line.removeprefix("/")
    if not line:
        return None
    try:
        pattern = re.compile(_translate(line), re.S)
    except (re.error, _NeverMatches):
        return None
    return Rule(pattern, not negated, folders_only, by_name)


class _NeverMatches(Exception):
    pass


def _without_trailing_spaces(line: str) -> str:
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    # A space after a backslash is part of the pattern.
    return stripped + " " if backslashes % 2 and len(stripped) < len(line) else stripped


def _translate(pattern: str) -> str:
    """A pattern as a regular expression for a whole path (git's wildmatch with WM_PATHNAME)."""
    # git compares what comes before the first special character as it is, and takes the rest
    # for a pattern of its own: "a**/b" is "a" and "**/b".
    plain = re.match(r"[^*?\[\\]*", pattern)
    prefix = plain[0] if plain else ""
    regex = re.escape(prefix)
    names = pattern[len(prefix) :].split("/")
    for i, name in enumerate(names):
        last = i == len(names) - 1
        if name == "**":
            # "**/" stands for any folders or none, "/**" for everything inside.
            if last or names[i + 1] != "**":
                regex += ".*" if last else "(?:.*/)?"
        else:
            regex += _translate_name(name) + ("" if last else "/")
    return regex


def _translate_name(name: str) -> str:
    """A name with its stars; between two of them the leftmost match is as good as any other.

    So atomic groups keep a pattern such as `*a*a*a*a*b` from trying every combination.
    """
    pieces, i = [""], 0
    while i < len(name):
        char = name[i]
        i += 1
        if char == "*":
            while name[i : i + 1] == "*":
                i += 1
            pieces.append("")
        elif char == "?":
            pieces[-1] += "[^/]"
        elif char == "\\":
            if i == len(name):
                raise _NeverMatches
            pieces[-1] += re.escape(name[i])
            i += 1
        elif char == "[":
            group, i = _translate_class(name, i)
            pieces[-1] += group
        else:
            pieces[-1] += re.escape(char)
    first, *others = pieces
    if not others:
        return first
    middle = "".join(f"(?>[^/]*?{piece})" for piece in others[:-1])
    return f"{first}{middle}[^/]*{others[-1]}"


def _translate_class(name: str, i: int) -> tuple[str, int]:
    """The set that begins after `name[i - 1] == "["`, and where it ends."""
    negated = name[i : i + 1] in ("!", "^")
    i += negated
    content, first = "", True
    while first or name[i : i + 1] != "]":
        first = False
        found = re.compile(r"\[:(\w+):\]").match(name, i)
        if found:
            if found[1] not in _POSIX_CLASSES:
                raise _NeverMatches
            content += _POSIX_CLASSES[found[1]]
            i = found.end()
            continue
        low, i = _class_char(name, i)
        if name[i : i + 1] == "-" and name[i + 1 : i + 2] not in ("", "]"):
            high, i = _class_char(name, i + 1)
            if low <= high:  # an empty range matches nothing, but the others still count
                content += f"{re.escape(low)}-{re.escape(high)}"
        else:
            content += re.escape(low)
    if not content:
        return ("[^/]" if negated else "(?!)"), i + 1
    return f"(?!/)[{'^' if negated else ''}{content}]", i + 1


def _class_char(name: str, i: int) -> tuple[str, int]:
    i += name[i : i + 1] == "\\"
    if i >= len(name):
        raise _NeverMatches
    return name[i], i + 1

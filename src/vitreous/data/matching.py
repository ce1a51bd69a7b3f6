"""Which of some listed names is of which picture: one rule for everything that goes by names.

A name is of a picture if the folders and the file name of the one end with those of the other, so
a flat listing fits nested pictures, and a listing with more folders above fits too; never where
both have folders that differ. What is in doubt is told and not guessed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

Fit = tuple[bool, int, bool]


@dataclasses.dataclass(frozen=True)
class Matches:
    """Pictures and the names that are of them.

    Attributes:
        places: For each picture the place of its name in the listing; None where it has none.
        problems: For each picture why a name that fits was not taken; empty where none was left.
        lost: Places of the names that are of no picture, without those in doubt.
    """

    places: tuple[int | None, ...]
    problems: tuple[str, ...]
    lost: tuple[int, ...]


def match_names(
    pictures: Sequence[str],
    listed: Sequence[str],
    *,
    paths: Sequence[str] | None = None,
    suffixes: bool = False,
) -> Matches:
    """Find the listed name of each picture; suffixes of file names do not count.

    Of several names that fit, the one with all the picture's folders and no other is its own, else
    the one that has more folders in common with its path. Of several pictures that one name fits,
    the same.

    Args:
        pictures: Their paths within their folder, `/` between the parts.
        listed: The names.
        paths: Whole paths of the pictures, which decide between names that fit; their paths within
            the folder where not given.
        suffixes: Whether, of names that differ in nothing else, the one with the picture's suffix
            is its own.

    Examples:
        >>> match_names(["ape/0.jpg", "bee/0.jpg"], ["masks/bee/0.png"]).places
        (None, 0)
        >>> match_names(["ape/0.jpg", "bee/0.jpg"], ["0.png"]).problems[0]
        '0.png fits ape/0.jpg and bee/0.jpg, so it was given to none'
    """
    table = _Table(pictures, listed, paths or pictures, suffixes)
    chosen: list[int | None] = []
    problems: list[str] = []
    doubtful: set[int] = set()
    for picture, name in enumerate(pictures):
        best = table.best(picture)
        chosen.append(best[0] if len(best) == 1 else None)
        problems.append("")
        if len(best) > 1:
            doubtful.update(best)
            problems[-1] = f"{listed[best[0]]} and {listed[best[1]]} fit {name}, so none was taken"
    takers: dict[int, list[int]] = {}
    for picture, place in enumerate(chosen):
        if place is not None:
            takers.setdefault(place, []).append(picture)
    for place, several in takers.items():
        nearest = table.nearest(place, several)
        clear = len({table.keys[picture] for picture in nearest}) == 1
        for picture in several:
            if clear and picture in nearest:
                continue
            chosen[picture] = None
            if not clear and picture in nearest:
                doubtful.add(place)
                first, second = (pictures[p] for p in nearest[:2])
                problems[picture] = (
                    f"{listed[place]} fits {first} and {second}, so it was given to none"
                )
    used = {*doubtful, *(place for place in chosen if place is not None)}
    lost = tuple(place for place in range(len(listed)) if place not in used)
    return Matches(tuple(chosen), tuple(problems), lost)


class _Table:
    """Names by their ends."""

    def __init__(
        self, pictures: Sequence[str], listed: Sequence[str], paths: Sequence[str], suffixes: bool
    ):
        self.keys = [_key(name) for name in pictures]
        self.paths, self.listed, self.suffixes = paths, listed, suffixes
        self.names = [_key(name) for name in listed]
        self.whole: dict[str, list[int]] = {}
        self.longer: dict[str, list[int]] = {}
        wanted = set(self.keys)
        for place, key in enumerate(self.names):
            self.whole.setdefault(key, []).append(place)
            for end in _ends(key)[1:]:
                if end in wanted:
                    self.longer.setdefault(end, []).append(place)

    def best(self, picture: int) -> list[int]:
        """Places of the names that fit a picture best; several where that is not clear."""
        key = self.keys[picture]
        fitting = self.whole.get(key) or [
            *(place for end in _ends(key)[1:] for place in self.whole.get(end, ())),
            *self.longer.get(key, ()),
        ]
        return _highest(fitting, [self._fit(picture, place) for place in fitting])

    def nearest(self, place: int, pictures: Sequence[int]) -> list[int]:
        """Of the pictures that took a name those that it fits best."""
        return _highest(pictures, [self._fit(picture, place)[:2] for picture in pictures])

    def _fit(self, picture: int, place: int) -> Fit:
        path, name = self.paths[picture], self.listed[place]
        parts = zip(reversed(_key(path).split("/")), reversed(self.names[place].split("/")))
        common = 0
        for one, other in parts:
            if one != other:
                break
            common += 1
        alike = self.suffixes and os.path.splitext(path)[1] == os.path.splitext(name)[1]
        return self.keys[picture] == self.names[place], common, alike


def _highest(values: Sequence[int], fits: Sequence[tuple[bool | int, ...]]) -> list[int]:
    top = max(fits, default=())
    return [value for value, fit in zip(values, fits) if fit == top]


def _key(name: str) -> str:
    """A path without its suffix, and without what says nothing of where it is."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return os.path.splitext("/".join(parts))[0]


def _ends(key: str) -> list[str]:
    """The path, and what is left of it without its first folder, its first two, …."""
    parts = key.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]

"""Names for interchangeable parts: a new one is one small file and one `@register` line."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, cast

from vitreous.errors import VitreousError, nearest

T = TypeVar("T")
Part = TypeVar("Part")


class Registry(Generic[T]):
    """A table from name to part, filled by the modules of one package when it is first asked.

    Args:
        kind: What the parts are called in messages, for example `"objective"`.
        package: The package whose modules register them, for example
            `"vitreous.training.objectives"`.
    """

    def __init__(self, kind: str, package: str | None = None):
        self.kind = kind
        self._package = package
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[Part], Part]:
        """Decorate a class or function to make it available under `name`; it keeps its type."""

        def add(part: Part) -> Part:
            own = cast(T, part)
            if self._parts.get(name, own) is not part:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._parts[name] = own
            return part

        return add

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._parts:
            raise VitreousError(f"unknown {self.kind} '{name}'; {nearest(name, self._parts)}")
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return isinstance(name, str) and name in self._parts

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._parts))

    def holds(self, part: object) -> bool:
        """Whether a part is an instance of a class that was registered."""
        self._load()
        return any(known is type(part) for known in self._parts.values())

    def name_of(self, part: object) -> str:
        """Return the name under which a part (or the class of a part) was registered."""
        self._load()
        for name, known in self._parts.items():
            if known is part or known is type(part):
                return name
        raise KeyError(f"{part!r} is not a registered {self.kind}")

    def _load(self) -> None:
        package_name, self._package = self._package, None
        if package_name is None:
            return
        try:
            package = importlib.import_module(package_name)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package_name}.{module.name}")
        except BaseException:
            self._package = package_name  # the next look-up tells the cause again, not "unknown"
            raise

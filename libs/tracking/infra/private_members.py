"""Guards code that relies on private members of a library: it is used only with the version that it was tested with.

With another version, or without one of the members, its module uses the public way of the library instead, which gives
the same results more slowly or with less protection. tests/unit/test_private_members.py fails then.
"""

import logging
from collections.abc import Mapping
from importlib import metadata

_log = logging.getLogger(__name__)


class PrivateMembers:
    """The members of a library that a module relies on, by class, and the version with which that was tested."""

    def __init__(self, distribution: str, tested_version: str, names_by_class: Mapping[type, tuple[str, ...]]) -> None:
        self._distribution = distribution
        self._tested_version = tested_version
        self._names_by_class = names_by_class
        self._is_usable: bool | None = None

    def is_usable(self) -> bool:
        """Return whether the installed library is as it was tested; the first time, log how it is not."""
        if self._is_usable is None:
            differences = self.find_differences()
            self._is_usable = not differences
            if differences:
                _log.warning("its public interface is used instead: %s", "; ".join(differences))
        return self._is_usable

    def find_differences(self) -> list[str]:
        """Return in words how the installed library differs from the tested one; empty if it does not."""
        installed = metadata.version(self._distribution)
        is_other = installed != self._tested_version
        versions = [f"{self._distribution} is {installed}, tested was {self._tested_version}"] if is_other else []
        missing = [
            f"{self._distribution}: {owner.__name__} has no {name}"
            for owner, names in self._names_by_class.items()
            for name in names
            if not _has_member(owner, name)
        ]
        return versions + missing


def _has_member(owner: type, name: str) -> bool:
    """Whether the class has it, or its constructor mentions it, which sets the attributes of an instance."""
    constructor = getattr(vars(owner).get("__init__"), "__code__", None)
    return hasattr(owner, name) or (constructor is not None and name in constructor.co_names)

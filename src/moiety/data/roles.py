"""Which column of a table is what: features, labels, who holds a row, how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

TARGETS = ("y", "label", "target", "class")
WORKER = "worker"

# fmt: off
CLIENTS = frozenset(
    ("centre", "center", "client", "customer", "device", "firm", "hospital", "institution",
     "patient", "person", "site", "speaker", "subject", "user", "worker", "writer")
)
# fmt: on
"""Words that name who holds a row, alone or with ``id`` behind."""


@dataclass(frozen=True)
class Roles:
    """What the columns of one table are; None for a role that no column has.

    ``more`` are further targets.
    """

    features: tuple[str, ...] = ()
    label: str | None = None
    group: str | None = None
    weight: str | None = None
    more: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Name the columns that are told, of which ``label`` is the first."""
        return () if self.label is None else (self.label, *self.more)

    @property
    def others(self) -> tuple[str, ...]:
        """Name the columns that are no features."""
        known = (*self.targets, self.group, self.weight)
        return tuple(name for name in known if name is not None)


@dataclass(frozen=True)
class Columns:
    """What the user said of columns.

    Args:
        target: what is to be told, or several columns, separated by commas; by default one with
            a usual name.
        group: of who holds a row; by default the one named worker.
        labels: whether labels are wanted.
        usual_target: the target where it is there, and nothing is amiss where it is not.
        usual_group: the group, likewise.
        features: the columns that are features; empty for all but the others.
        drop: columns that are not read.
        weight: how much a row counts.
        task: the kind of the target; empty where the values are to tell.
    """

    target: str | None = None
    group: str | None = None
    labels: bool = True
    usual_target: str | None = None
    usual_group: str | None = None
    features: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    weight: str | None = None
    task: str = ""

    def split(self, names: Sequence[str]) -> Columns:
        """Split names that were said together, ``a,b``, as those of several targets are."""
        features, drop = split_names(self.features, names), split_names(self.drop, names)
        return replace(self, features=features, drop=drop)

    def choose(
        self, path: Path, names: Sequence[str], usual: Sequence[str] = TARGETS
    ) -> tuple[str | None, str | None]:
        """Choose the columns of labels (None where unwanted or absent) and of workers."""
        usual_groups = [name for name in (self.usual_group, WORKER) if name in names]
        group = self.group or next(iter(usual_groups), None)
        check_column(path, names, "group", self.group)
        if not self.labels:
            return None, group
        said = split_targets(self.target, names)
        for name in said:
            check_column(path, names, "target", name)
        found = [name for name in usual if name in names]
        known = split_targets(self.usual_target, names)
        found = [*known] if known and all(name in names for name in known) else found
        if self.target is None and len(found) > 1 and not known:
            raise ValueError(f"{path} has columns {found}; say which is the label by target=...")
        return next(iter([*said, *found]), None), group

    def refuse_unread(self, path: Path) -> None:
        """Refuse what only a table of named columns has.

        Raises:
            ValueError: with the options said.
        """
        said = {"features": self.features, "drop": self.drop, "weight": self.weight}
        unread = [f"--{name}" for name, value in said.items() if value]
        if unread:
            raise ValueError(
                f"{path} is no table of named columns, which {' and '.join(unread)} would choose "
                "from; leave them out"
            )

    def choose_roles(self, path: Path, names: Sequence[str]) -> Roles:
        """Choose what every column is; unwanted labels are left out.

        Raises:
            ValueError: for a column that is not there, or has two roles, or where no feature is
                left.
        """
        for role, said in (("features", self.features), ("drop", self.drop)):
            for name in said:
                check_column(path, names, role, name)
        check_column(path, names, "weight", self.weight)
        there = [name for name in names if name not in self.drop]
        label, group = self.choose(path, there)
        more = split_targets(self.target, there)[1:] if self.labels else ()
        roles = Roles((), label, group, self.weight, more)
        twice = sorted({*self.features} & {*roles.others, *self.drop})
        if twice or len(set(roles.others)) < len(roles.others):
            raise ValueError(
                f"{path}: {twice or list(roles.others)} have two roles; a column is a feature, the "
                "target, the group, the weight, or dropped"
            )
        told = split_targets(self.target, there), split_targets(self.usual_target, there)
        never = {*roles.others, *told[0], *told[1]} | (
            set() if self.labels or self.target else {*TARGETS}
        )
        features = self.features or tuple(name for name in there if name not in never)
        if not features:
            raise ValueError(f"{path} has columns {list(names)}, none of them features; add some")
        return Roles(tuple(features), label, group, self.weight, more)


def split_targets(target: str | None, names: Sequence[str]) -> tuple[str, ...]:
    """Split the names of several target columns at commas; a column of that very name is one.

    >>> split_targets("a,b", ["a", "b", "c"]), split_targets("a,b", ["a,b"])
    (('a', 'b'), ('a,b',))
    """
    if target is None or target in names or "," not in target:
        return () if target is None else (target,)
    return tuple(part.strip() for part in target.split(","))


def split_names(said: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Split names of columns at commas.

    >>> split_names(("a,b", "c,d"), ["a", "b", "c,d"])
    ('a', 'b', 'c,d')
    """
    return tuple(part for one in said for part in split_targets(one, names))


def check_column(path: Path, names: Sequence[str], role: str, name: str | None) -> None:
    """Refuse a named column that is not there."""
    if name is not None and name not in names:
        raise ValueError(f"{path} has no column {role}={name!r}; it has {list(names)}")


def note_clients(roles: Roles) -> list[str]:
    """Say which features are named like who holds a row, where nothing says who does."""
    if roles.group is not None:
        return []
    return [
        f"column {name!r} is a feature, but is named like who holds a row: --group {name} makes it "
        f"the workers, --drop {name} leaves it out"
        for name in roles.features
        if name.lower().replace("-", "_").removesuffix("id").removesuffix("_") in CLIENTS
    ]

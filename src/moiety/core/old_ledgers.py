"""What ledgers of version 3 said, in the fields of today: they knew classes and texts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from moiety.core.objective import OF_CLASSES


def refuse_version(found: Any, known: Sequence[int]) -> None:
    """Refuse a ledger of a version that is not read."""
    if found not in known:
        raise ValueError(
            f"ledger of version {found!r}, but this reader knows {', '.join(map(str, known))}; "
            "use the release of moiety that wrote it"
        )


def upgrade_start(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of a start; of ``texts`` the loss was what counts."""
    rest = {name: value for name, value in raw.items() if name != "texts"}
    texts = raw.get("texts", False)
    metrics = [asdict(one) for one in (OF_CLASSES[::-1] if texts else OF_CLASSES)]
    return {**rest, "objective": "tokens" if texts else "classes", "metrics": metrics}


def upgrade_group(raw: Mapping[str, Any]) -> Mapping[str, Sequence[float | None]]:
    """Give the metrics of a group."""
    return {name: raw[name] for name in ("accuracy", "loss") if raw.get(name)}

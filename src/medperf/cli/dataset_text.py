"""How datasets are shown: a page, a row, a document for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medperf.cli.base import Session
from medperf.cli.output import Column, human_bytes, human_seconds

if TYPE_CHECKING:
    from medperf.flows.datasets import CreatedDataset, DatasetSummary
    from medperf.wire.datasets import DatasetView
    from medperf.workspace.datasets import LocalDataset


def show_created(session: Session, made: CreatedDataset, *, following: bool) -> None:
    """What was made of the records. ``following``: name the next command."""
    facts, name = made.dataset.facts, made.dataset.name
    if made.already:
        session.out.line(f"Dataset {made.dataset.uuid[:8]} ({name}) was prepared before: it is taken as it is.")
        return
    show_statistics(session, facts.statistics)
    session.out.line(
        f"Prepared {facts.files:,} files ({human_bytes(facts.bytes)}) in {human_seconds(made.seconds)}; "
        "nothing left this machine."
    )
    submit = session.next("dataset", "submit", name) if following and facts.preparator is not None else ""
    session.out.created("dataset", made.dataset.uuid[:8], name, then=submit)


def show_dataset(session: Session, found: DatasetSummary) -> None:
    """What a person wants to know of a dataset, and what to do with it."""
    out, local, there = session.out, found.local, found.registered
    told = there or (local.facts if local is not None else None)
    assert told is not None
    out.facts(
        ("dataset", named(local, there)),
        ("description", told.description),
        ("location", told.location),
        ("site label", told.site_label),
        ("owner", there.owner.name if there is not None else None),
        ("state", there.state if there is not None else "not submitted"),
        ("marked", flags_of(there) or None),
        ("preparator", local.facts.preparator_label if local is not None else told.preparator),
    )
    if local is not None:
        out.facts(
            ("files", f"{local.facts.files:,} ({human_bytes(local.facts.bytes)})"),
            ("prepared from", f"{local.facts.raw_data}, {local.facts.raw_labels}"),
            ("kept in", local.folder),
            ("prepared", datetime.fromisoformat(local.created_at)),
            ("last checked", datetime.fromisoformat(local.checked_at)),
            ("last read in full", datetime.fromisoformat(local.full_checked_at)),
        )
    out.line()
    if there is None and local is not None:
        show_statistics(session, local.facts.statistics)
        out.line(f"Next: {session.next('dataset', 'submit', local.name)}")
    elif there is not None:
        show_statistics(session, there.document())
        number = str(there.id)
        out.line(f"Its benchmarks: {session.next('association', 'ls', '-d', number)}")
        if local is not None and not flags_of(there):
            benchmark = str(local.facts.benchmark or "BENCHMARK")
            out.line(f"Join one: {session.next('dataset', 'associate', '-b', benchmark, '-d', number)}")


def show_statistics(session: Session, statistics: Mapping[str, Any]) -> None:
    """The preparator's statistics as a table; ``statistics`` is nested."""
    session.out.table(
        [Column("statistic"), Column("value", right=True)],
        [(name, "undefined" if value is None else value) for name, value in _lines(statistics)],
        empty="No statistics.",
    )


def _lines(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict) and value:
            yield from _lines(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def named(local: LocalDataset | None, there: DatasetView | None) -> str:
    """``1 (chest), here 4b3e9c1a``; ``chest, here 4b3e9c1a`` where no server knows it."""
    here = f", here {local.uuid[:8]}" if local is not None else ""
    if there is not None:
        return f"{there.id} ({there.name}){here}"
    return f"{local.name if local is not None else ''}{here}"


def flags_of(there: DatasetView | None) -> str:
    """``invalid and inactive``, or nothing."""
    if there is None:
        return ""
    return " and ".join(
        word for word, marked in (("invalid", not there.is_valid), ("inactive", not there.is_active)) if marked
    )


def row_of(found: DatasetSummary) -> tuple[Any, ...]:
    """Its cells in the listing."""
    local, there = found.local, found.registered
    return (
        there.id if there is not None else None,
        local.uuid[:8] if local is not None else None,
        found.name,
        there.preparator if there is not None else local and local.facts.preparator,
        there.state if there is not None else found.standing,
        there.is_active if there is not None else None,
        there.owner.name if there is not None else None,
        datetime.fromisoformat(local.created_at) if local is not None else there and there.created_at,
    )


def both_documents(found: DatasetSummary) -> dict[str, Any]:
    """For programs. Salt and root are left out: they stay where they are, and an answer travels."""
    return {
        "name": found.name,
        "standing": found.standing,
        "registered": found.registered,
        "local": local_document(found.local) if found.local is not None else None,
    }


def local_document(dataset: LocalDataset) -> dict[str, Any]:
    """What this site knows of it, without salt and roots."""
    shown = {key: value for key, value in fields_of(dataset).items() if key not in ("salt", "root")}
    return {**shown, "facts": {key: value for key, value in fields_of(dataset.facts).items() if key != "raw_root"}}


def fields_of(value: Any) -> dict[str, Any]:
    """A dataclass as a mapping; what it holds stays as it is."""
    return {entry.name: getattr(value, entry.name) for entry in dataclasses.fields(value)}

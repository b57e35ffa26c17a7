"""Change what may change of a registered MLCube, benchmark or dataset. What is so already is left alone, and said to be so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medperf.domain.associations import AutoMode
from medperf.domain.disclosure import Exit
from medperf.domain.errors import InvalidInput, NotFound, UsageError
from medperf.domain.executions import ResultsVisibility
from medperf.domain.numbers import whole_number
from medperf.domain.states import State, check_editable
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.datasets import DatasetView
    from medperf.wire.models import AutoPolicy, BenchmarkView, MLCubeView, PartyRef
    from medperf.workspace.datasets import LocalDataset

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Edited(Generic[Thing]):
    """A thing as it is now. ``changed``: the fields that this call changed; none: all was so already."""

    view: Thing
    changed: tuple[str, ...]


@dataclass(frozen=True)
class EditedDataset:
    """``dataset`` None: not of this site; ``registered`` None: no server knows it. ``changed`` as of `Edited`."""

    dataset: LocalDataset | None
    registered: DatasetView | None
    changed: tuple[str, ...]


@dataclass(frozen=True)
class AutoChoice:
    """Whose requests to join are approved without a person, as somebody typed it.

    Attributes:
        mode: None: an allow-list, where parties are given.
        parties: ids, or names of who owns something in the benchmark, or of one's own organisations.
    """

    mode: AutoMode | None = None
    parties: tuple[str, ...] = ()

    @property
    def chosen(self) -> AutoMode:
        """The mode that follows.

        Raises:
            UsageError: owners are listed for a mode that takes none, or an allow-list lists nobody.
        """
        mode = self.mode or (AutoMode.ALLOW_LIST if self.parties else AutoMode.NEVER)
        if bool(self.parties) is not (mode is AutoMode.ALLOW_LIST):
            raise UsageError(
                "usage",
                "An allow-list names the owners it is for, and nothing else does.",
                "Give allow_list with the owners, or never, or always without any.",
            )
        return mode


@dataclass(frozen=True)
class BenchmarkPolicy:
    """What a new benchmark decides by itself, and who sees its results; None: nothing, and its owners alone."""

    auto_models: AutoChoice | None = None
    auto_datasets: AutoChoice | None = None
    results_visibility: ResultsVisibility | None = None

    def fields(self, site: Site) -> dict[str, Any]:
        """What was chosen, as `BenchmarkCreate` takes it.

        Raises:
            UsageError, NotFound: see `auto_policy`.
        """
        chosen = {"auto_models": self.auto_models, "auto_datasets": self.auto_datasets}
        found: dict[str, Any] = {
            name: auto_policy(site, choice) for name, choice in chosen.items() if choice is not None
        }
        visibility = self.results_visibility
        return found if visibility is None else {**found, "results_visibility": visibility}


def edit_mlcube(
    site: Site,
    mlcube_id: int,
    *,
    name: str | None = None,
    operation: bool = False,
    is_valid: bool | None = None,
    metadata: Path | None = None,
) -> Edited[MLCubeView]:
    """Change an MLCube.

    Args:
        operation: put it in OPERATION, for good.
        metadata: a YAML or JSON file with what its owner wants to say of it.

    Raises:
        UsageError: nothing to change was given.
        Conflict: OPERATION froze it, or somebody changed it meanwhile.
    """
    from medperf.wire.models import MLCubeUpdate

    wanted = _given("mlcube", name=name, state=_state(operation), is_valid=is_valid, user_metadata=_metadata(metadata))
    MLCubeUpdate.check(**wanted)
    view = site.api.mlcubes.get(mlcube_id)
    changes = _changes("mlcube", view, wanted)
    if changes:
        view = site.api.mlcubes.update(mlcube_id, MLCubeUpdate.of(**changes), version=view.version)
    return Edited(view, tuple(changes))


def deactivate_mlcube(site: Site, mlcube_id: int) -> Edited[MLCubeView]:
    """Mark an MLCube invalid: nothing new joins or runs with it. ``mlcube edit --valid`` takes it back."""
    return edit_mlcube(site, mlcube_id, is_valid=False)


def edit_benchmark(
    site: Site,
    benchmark_id: int,
    *,
    name: str | None = None,
    description: str | None = None,
    docs_url: str | None = None,
    operation: bool = False,
    is_valid: bool | None = None,
    is_active: bool | None = None,
    auto_models: AutoChoice | None = None,
    auto_datasets: AutoChoice | None = None,
    results_visibility: ResultsVisibility | None = None,
    metadata: Path | None = None,
) -> Edited[BenchmarkView]:
    """Change a benchmark. See `edit_mlcube`.

    Args:
        results_visibility: in OPERATION it only narrows.
    """
    from medperf.wire.models import BenchmarkUpdate

    plain = {"name": name, "description": description, "docs_url": docs_url, "results_visibility": results_visibility}
    flags = {"is_valid": is_valid, "is_active": is_active, "user_metadata": _metadata(metadata)}
    wanted = _given(
        "benchmark", **plain, **flags, state=_state(operation), auto_models=auto_models, auto_datasets=auto_datasets
    )
    BenchmarkUpdate.check(**{key: value for key, value in wanted.items() if not isinstance(value, AutoChoice)})
    view = site.api.benchmarks.get(benchmark_id)
    for key, value in wanted.items():
        if isinstance(value, AutoChoice):
            wanted[key] = auto_policy(site, value, benchmark=view)
    changes = _changes("benchmark", view, wanted)
    if changes:
        view = site.api.benchmarks.update(benchmark_id, BenchmarkUpdate.of(**changes), version=view.version)
    return Edited(view, tuple(changes))


def deactivate_benchmark(site: Site, benchmark_id: int) -> Edited[BenchmarkView]:
    """Let nothing new join or run in a benchmark. ``benchmark edit --active`` takes it back; results stay."""
    return edit_benchmark(site, benchmark_id, is_active=False)


def edit_dataset(
    site: Site,
    reference: str,
    *,
    name: str | None = None,
    description: str | None = None,
    location: str | None = None,
    site_label: str | None = None,
    is_valid: bool | None = None,
    is_active: bool | None = None,
    yes: bool = False,
) -> EditedDataset:
    """Change what a dataset is called, or whether it counts: at the server, if that knows it, and here.

    Args:
        reference: its name or id here, or its id at the server.
        yes: see `medperf.flows.egress.send`.

    Raises:
        UsageError: nothing to change was given.
        InvalidInput: a flag of a dataset that the server does not know.
        Conflict: OPERATION froze it, or the name is taken.
        Forbidden: nobody agreed.
    """
    from medperf.wire.datasets import DatasetUpdate

    given = _given(
        "dataset",
        name=name,
        description=description,
        location=location,
        site_label=site_label,
        is_valid=is_valid,
        is_active=is_active,
    )
    wanted = DatasetUpdate.of(**given).model_dump(exclude_unset=True)  # without the spaces around texts
    texts = {key: value for key, value in wanted.items() if isinstance(value, str)}
    dataset, registered = _dataset(site, reference)
    view: DatasetView | None = None
    changed: tuple[str, ...] = ()
    if registered is not None:
        view = site.api.datasets.get(registered)
        changes = _changes("dataset", view, wanted)
        _settle_update(site, view)
        if changes:
            changed = tuple(changes)
            view = _send_update(site, view, changes, dataset=dataset, yes=yes)
    elif len(wanted) > len(texts):
        assert dataset is not None
        raise InvalidInput(
            "not_submitted",
            f"The server does not know the dataset {dataset.name!r}, so nothing can run on it.",
            f"Register it first: medperf dataset submit {dataset.uuid[:8]}",
        )
    if dataset is not None:
        here = {"name": dataset.name, **{key: getattr(dataset.facts, key) for key in texts if key != "name"}}
        differing = {key: value for key, value in texts.items() if here[key] != value}
        if differing:
            dataset = site.workspace.datasets.describe(dataset.uuid, **differing)
            changed = changed or tuple(differing)
    return EditedDataset(dataset, view, changed)


def deactivate_dataset(site: Site, reference: str, *, yes: bool = False) -> EditedDataset:
    """Let nothing run on a dataset until ``dataset edit --active``; its associations stay, unlike with ``dataset withdraw``."""
    return edit_dataset(site, reference, is_active=False, yes=yes)


def auto_policy(site: Site, choice: AutoChoice, *, benchmark: BenchmarkView | None = None) -> AutoPolicy:
    """What was typed, as it is sent.

    Args:
        benchmark: whose owners of models and datasets may be named; None: it is not there yet.

    Raises:
        UsageError: see `AutoChoice.chosen`.
        NotFound: a name that nobody is known by.
        InvalidInput: ``ambiguous_owner``: a person and an organisation are called so.
    """
    from medperf.wire.models import AutoPolicy

    mode = choice.chosen
    parties = sorted({_party(site, word.strip(), benchmark) for word in choice.parties})
    return AutoPolicy.of(mode=mode, parties=tuple(parties))


# ------------------------------------------------------------------------------------------------------------------- within


def _state(operation: bool) -> State | None:
    return State.OPERATION if operation else None


def _given(noun: str, **fields: Any) -> dict[str, Any]:
    """Those that somebody gave.

    Raises:
        UsageError: none.
    """
    found = {name: value for name, value in fields.items() if value is not None}
    if not found:
        raise UsageError("usage", "Nothing to change was given.", f"See: medperf {noun} edit --help")
    return found


def _changes(noun: str, view: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``wanted`` is not so yet.

    Raises:
        Conflict: OPERATION froze it.
    """
    changes = {name: value for name, value in wanted.items() if not _same(getattr(view, name), value)}
    check_editable(noun, view.state, changes)
    return changes


def _same(now: Any, wanted: Any) -> bool:
    if hasattr(wanted, "parties"):
        return bool(now.mode is wanted.mode and tuple(sorted(now.parties or ())) == wanted.parties)
    return bool(now == (wanted.strip() if isinstance(wanted, str) else wanted))


def _metadata(path: Path | None) -> dict[str, Any] | None:
    """The mapping in a file.

    Raises:
        InvalidInput: no file, too large, or no mapping.
    """
    if path is None:
        return None
    from medperf.domain import limits
    from medperf.domain.documents import load_yaml
    from medperf.flows.paths import local_path
    from medperf.runtime.manifests.files import read_plain

    data = read_plain(local_path(path), limits.METADATA_BYTES, "metadata", follow=True)
    document = load_yaml(data, label=path.name, max_bytes=limits.METADATA_BYTES)
    if not isinstance(document, dict):
        raise InvalidInput("bad_metadata", f"{path.name} is no mapping.", "Write 'name: value' lines.")
    return document


def _party(site: Site, word: str, benchmark: BenchmarkView | None) -> int:
    """The id of an owner. The server tells names only where their things are seen, so they are looked for there."""
    number = whole_number(word)
    if number is not None:
        return number
    known: list[PartyRef] = []
    if benchmark is not None:
        known = [one.owner for one in site.api.associations.list(benchmark=benchmark.id) if one.owner is not None]
    found = {party.id: party for party in known if party.name.lower() == word.lower()}
    for organisation in site.api.organisations.list():
        if organisation.name.lower() == word.lower():
            found.setdefault(organisation.id, organisation)  # type: ignore[arg-type] # only its id is looked at
    if len(found) > 1:
        raise InvalidInput(
            "ambiguous_owner", f"More than one owner is called {word[:100]!r}.", f"Give an id: {sorted(found)}."
        )
    if not found:
        raise NotFound(
            "unknown_owner",
            f"No owner of anything in this benchmark, and no organisation of yours, is called {word[:100]!r}.",
            "Give the owner's id: medperf mlcube view, and medperf association view, show it.",
        )
    return next(iter(found))


def _dataset(site: Site, reference: str) -> tuple[LocalDataset | None, int | None]:
    """A dataset of this site, or one of the server that one manages from elsewhere; and its id there."""
    from medperf.flows.checking import find_local, instance_of

    try:
        dataset = find_local(site, reference)
    except NotFound:
        number = whole_number(reference)
        if number is None:
            raise
        return None, number
    return dataset, dataset.registered.get(instance_of(site) or "")


def _send_update(
    site: Site, view: DatasetView, changes: Mapping[str, Any], *, dataset: LocalDataset | None, yes: bool
) -> DatasetView:
    from medperf.flows.egress import send
    from medperf.wire.datasets import DatasetUpdate

    version = view.version

    def update(body: DatasetUpdate, *, idempotency_key: str) -> DatasetView:  # noqa: ARG001 - If-Match does it
        return site.api.datasets.update(view.id, body, version=version)

    here = f" ({dataset.uuid[:8]} here)" if dataset is not None else ""
    return send(
        site,
        Exit.DATASET_UPDATE,
        DatasetUpdate.of(**changes),
        update,
        about=f"dataset {view.id}, {view.name!r}{here}",
        address={"dataset": view.id},
        changed_only=True,
        yes=yes,
    ).answer


def _settle_update(site: Site, view: DatasetView) -> None:
    """What an earlier call sent and heard nothing of arrived, where the dataset is as it said."""
    from medperf.flows.egress import settle

    now = view.model_dump(mode="json", exclude={"statistics"})

    def became(body: Mapping[str, Any]) -> bool | None:
        said = {name: value for name, value in body.items() if name != "dataset"}
        return True if body.get("dataset") == view.id and said.items() <= now.items() else None

    settle(site, Exit.DATASET_UPDATE, became)

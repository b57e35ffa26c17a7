"""``/datasets``."""

from __future__ import annotations

from collections.abc import Iterator

from medperf.client.base import Part
from medperf.client.http import Transport
from medperf.wire.datasets import DatasetCreate, DatasetStatistics, DatasetUpdate, DatasetView


class DatasetsPart(Part[DatasetView]):
    """``/datasets``."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/datasets", DatasetView)

    def list(
        self,
        *,
        owner: str | None = None,
        preparator: int | None = None,
        state: str | None = None,
        is_valid: bool | None = None,
        is_active: bool | None = None,
        name: str | None = None,
        search: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[DatasetView]:
        """What the account may see, oldest first unless ``sort`` or ``search`` says otherwise. ``owner``: ``"me"`` or None."""
        return self._pages(
            limit=limit,
            owner=owner,
            preparator=preparator,
            state=state,
            is_valid=is_valid,
            is_active=is_active,
            name=name,
            search=search,
            sort=sort,
        )

    def get(self, dataset_id: int) -> DatasetView:
        """One dataset with its statistics."""
        return self._get(f"/{dataset_id}")

    def create(self, body: DatasetCreate, *, idempotency_key: str) -> DatasetView:
        """Register a dataset. The same key, or the same UUID and data, give what was registered.

        Raises:
            Conflict: ``dataset_exists``, ``name_taken``.
        """
        return self._parsed(DatasetView, self._send("POST", "", body, idempotency_key=idempotency_key))

    def update(self, dataset_id: int, body: DatasetUpdate, *, version: int) -> DatasetView:
        """Change the fields that ``body`` was made with.

        Args:
            version: of the view that the change is based on.

        Raises:
            Conflict: somebody changed it meanwhile, or OPERATION froze a field.
        """
        return self._parsed(
            DatasetView, self._send("PATCH", f"/{dataset_id}", body, changed_only=True, version=version)
        )

    def set_statistics(self, body: DatasetStatistics) -> DatasetView:
        """Give the statistics of the dataset that ``body`` names; the same again changes nothing.

        Raises:
            InvalidInput: they break the contract.
            Conflict: ``frozen_in_operation``.
        """
        return self._parsed(DatasetView, self._send("PUT", f"/{body.dataset}/statistics", body))

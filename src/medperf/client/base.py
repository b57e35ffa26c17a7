"""What the typed parts of the API share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from medperf.client.faults import no_sense, not_medperf
from medperf.client.http import Answer, Transport
from medperf.domain import limits
from medperf.wire.models import Body, Page, View

V = TypeVar("V", bound=View)
M = TypeVar("M", bound=BaseModel)


class Part(Generic[V]):
    """What every noun can do."""

    def __init__(self, transport: Transport, path: str, view: type[V]) -> None:
        self._transport = transport
        self._path = path
        self._view = view

    def _get(self, path: str = "") -> V:
        return self._parsed(self._view, self._transport.request("GET", self._path + path))

    def _send(
        self,
        method: str,
        path: str,
        body: Body,
        *,
        changed_only: bool = False,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> Answer:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        data = body.model_dump_json(exclude_unset=changed_only).encode()
        return self._transport.request(
            method, self._path + path, body=data, headers=headers, idempotency_key=idempotency_key
        )

    def _pages(self, *, limit: int | None, **filters: Any) -> Iterator[V]:
        """All items over all pages, asked for as they are needed; at most ``limit``."""
        after: str | None = None
        left = limit
        while left is None or left > 0:
            size = limits.PAGE_MAX if left is None else min(left, limits.PAGE_MAX)
            answer = self._transport.request("GET", self._path, params={**filters, "limit": size, "after": after})
            page = self._parsed(Page[self._view], answer)  # type: ignore[name-defined] # the view is a value here
            yield from page.items[:left]
            if page.next is None or not page.items:
                return
            if page.next == after:
                raise not_medperf(self._transport.base_url, "its pages have no end")
            after = page.next
            left = None if left is None else left - len(page.items)

    def _parsed(self, model: type[M], answer: Answer) -> M:
        try:
            return model.model_validate(answer.document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise no_sense(self._transport.base_url, answer.headers, f"{where}: {first['msg']}") from error

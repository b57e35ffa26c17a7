"""What SQLAlchemy has no portable word for."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class IdsOf(FunctionElement[int]):
    """The rows of a select of one column ``i``, as a function in FROM: so the select may speak of the tables to the left of it."""

    name = "ids_of"
    inherit_cache = True
    type = sa.Integer()

    def __init__(self, select: sa.Select[Any]) -> None:
        super().__init__(select.scalar_subquery())


@compiles(IdsOf, "sqlite")
def _sqlite(element: IdsOf, compiler: Any, **options: Any) -> str:
    return f"json_each((SELECT json_group_array(i) FROM {compiler.process(element.clauses, **options)}))"  # noqa: S608 - what SQLAlchemy wrote


@compiles(IdsOf, "postgresql")
def _postgresql(element: IdsOf, compiler: Any, **options: Any) -> str:
    return f"unnest(ARRAY{compiler.process(element.clauses, **options)})"

"""A data owner's site for tests: somebody who answers, and what the preparator's tasks are made to do."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from medperf.domain.events import Event
from medperf.flows.datasets import DatasetRequest
from medperf.flows.site import Site, SiteOptions
from medperf.testing.workflows import Workflow


@dataclass
class Person:
    """Answers every question with ``yes``, and keeps the questions."""

    yes: bool = True
    asked: list[str] = field(default_factory=list)

    def confirm(self, question: str, *, default: bool = False) -> bool:
        self.asked.append(question)
        return self.yes

    def text(self, question: str) -> str:
        raise AssertionError(question)

    secret = text


@dataclass
class Told:
    """Events, as they came."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def text(self) -> str:
        return "\n".join(str(event) for event in self.events)


def open_site(person: Person | None = None, told: Told | None = None) -> Site:
    """The site of the current home and profile."""
    return Site.open(
        SiteOptions(), environ=dict(os.environ), cwd=Path.cwd(), ask=person or Person(), emit=told or Told()
    )


def request(workflow: Workflow, *, name: str = "chest", **changes: object) -> DatasetRequest:
    """Records of the workflow, prepared by its own preparator unless ``benchmark`` is given."""
    source = {} if "benchmark" in changes else {"preparator": str(workflow.preparator)}
    given = {"data_path": str(workflow.data), "labels_path": str(workflow.labels), **source, **changes}
    return DatasetRequest(name=name, **given)  # type: ignore[arg-type]


def declare_report(workflow: Workflow) -> None:
    """The preparator's prepare writes a report, so that it can be continued."""
    text = workflow.preparator.read_text()
    marker = "output_labels_path:"
    at = text.index(marker)
    indent = at - text.rindex("\n", 0, at) - 1
    line = f"report_file: {{type: file, default: report.yaml}}\n{' ' * indent}"
    workflow.preparator.write_text(text[:at] + line + text[at:])
    program = workflow.program("prep")
    program.write_text(program.read_text().replace("def prepare(", "def prepare(report_file, ", 1))

"""The requests of the table of permissions that are about executions and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .conftest import Person, World
from .executing import Study, add_dataset, associate

if TYPE_CHECKING:
    from .stage import Request


class ExecutionsStage:
    """What `stage.Stage` knows of them. Each request has an execution of its own, of a dataset of its own."""

    world: World
    people: dict[str, Person]
    organisation: int
    parts: dict[str, dict[str, Any]]
    our_parts: dict[str, dict[str, Any]]
    ids: dict[str, int]
    numbers: Any

    def study(self, what: str) -> Study:
        """A new dataset of whom ``what`` names, in a benchmark that is approved; run and released by who may."""
        ours = what.startswith("organisation")
        person = self.people["oper" if ours else "data"]
        parts, benchmark = self.parts, "approved"
        if what == "published":
            parts, benchmark = self.our_parts, "organisation's approved"
        bench = self.people["bnch"]
        view = bench.get(f"/benchmarks/{self.ids[benchmark]}").json()
        owner, name = self.organisation if ours else person.party, f"run {next(self.numbers)}"
        dataset = add_dataset(self.world, owner, parts["preparator"]["id"], name=name)
        associate(self.world, view, dataset=dataset)
        return Study(self.world, bench, person, self.people["modl"], view, parts, dataset, owner, data_name=name)

    def _releaser(self, what: str) -> Person:
        return self.people["rele" if what.startswith("organisation") else "data"]

    def _attempted(self, request: Request) -> tuple[Study, int]:
        study = self.study(request.row.what)
        execution = request.ids["execution_id"] = study.register()
        request.ids["number"] = study.attempt(execution)
        return study, execution

    def _post_executions(self, request: Request, actor: Person) -> None:
        request.json = self.study(request.row.what).ids()

    def _get_executions_execution_id(self, request: Request, actor: Person) -> None:
        request.ids["execution_id"] = self.study(request.row.what).register()

    def _post_executions_execution_id_attempts(self, request: Request, actor: Person) -> None:
        study = self.study(request.row.what)
        request.ids["execution_id"] = study.register()
        request.json = study.attempt_body()

    def _patch_executions_execution_id_attempts_number(self, request: Request, actor: Person) -> None:
        _, execution = self._attempted(request)
        request.json = {"execution": execution, "attempt": 1, "state": "RUNNING"}

    def _put_executions_execution_id_attempts_number_progress(self, request: Request, actor: Person) -> None:
        _, execution = self._attempted(request)
        request.json = {"execution": execution, "attempt": 1, "percent": 5}

    def _post_executions_execution_id_release(self, request: Request, actor: Person) -> None:
        study, execution = self._attempted(request)
        study.finish(execution, 1)
        request.json = study.release_body(execution)

    def _post_executions_execution_id_withholding(self, request: Request, actor: Person) -> None:
        study, execution = self._attempted(request)
        study.finish(execution, 1)
        request.json = {"execution": execution, "attempt": 1}

    def _post_executions_execution_id_retraction(self, request: Request, actor: Person) -> None:
        self._get_results_result_id(request, actor)
        request.json = {"execution": request.ids["execution_id"], "attempt": 1, "reason": "wrong labels"}

    def _get_results_result_id(self, request: Request, actor: Person) -> None:
        study, execution = self._attempted(request)
        study.finish(execution, 1)
        if request.row.what == "published":
            study.show_to("accounts")
        answer = study.release(execution, person=self._releaser(request.row.what))
        assert answer.status_code == 201, answer.text
        request.ids["result_id"] = answer.json()["id"]

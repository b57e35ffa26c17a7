"""The requests of the table of permissions that are about datasets and associations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .conftest import Person, World
from .joining import (
    ask,
    asks_with_dataset,
    asks_with_model,
    dataset_body,
    decide,
    invites,
    make_dataset,
)

if TYPE_CHECKING:
    from .stage import Request


class JoiningStage:
    """What `stage.Stage` knows of them. Each association is made for the request that is about it."""

    world: World
    people: dict[str, Person]
    organisation: int
    parts: dict[str, dict[str, Any]]
    our_parts: dict[str, dict[str, Any]]
    ids: dict[str, int]
    numbers: Any

    def _make_datasets(self) -> dict[str, int]:
        """One in each state that makes a difference to who sees it."""
        data, oper = self.people["data"], self.people["oper"]
        preparator, ours = self.parts["preparator"]["id"], self.our_parts["preparator"]["id"]
        made = {
            "data owner's draft": make_dataset(data, preparator, state="DEVELOPMENT"),
            "data owner's dataset": make_dataset(data, preparator),
            "data owner's that asked": make_dataset(data, preparator),
            "data owner's that asked the organisation": make_dataset(data, ours),
            "data owner's that was invited": make_dataset(data, preparator),
            "data owner's that left": make_dataset(data, preparator),
            "organisation's dataset": make_dataset(oper, preparator, owner=self.organisation),
        }
        ask(data, asks_with_dataset(made["data owner's that asked"], self._benchmark("approved")))
        theirs = self._benchmark("organisation's approved")
        ask(data, asks_with_dataset(made["data owner's that asked the organisation"], theirs))
        self._invited("approved", dataset=made["data owner's that was invited"]["id"])
        left = ask(data, asks_with_dataset(made["data owner's that left"], self._benchmark("approved")))
        for person, status in ((self.people["bnch"], "APPROVED"), (data, "REVOKED")):
            assert decide(person, left, status).status_code == 200
        return {name: dataset["id"] for name, dataset in made.items()}

    def _benchmark(self, name: str) -> dict[str, Any]:
        return dict(self.people["bnch"].get(f"/benchmarks/{self.ids[name]}").json())

    def _invited(self, benchmark: str, **asset: int) -> dict[str, Any]:
        person = self.people["oper" if benchmark.startswith("organisation") else "bnch"]
        answer = person.post(f"/benchmarks/{self.ids[benchmark]}/invitations", invites(**asset))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def _dataset(self, *, ours: bool = False) -> dict[str, Any]:
        preparator = (self.our_parts if ours else self.parts)["preparator"]["id"]
        return make_dataset(self.people["data"], preparator)

    def _model(self) -> dict[str, Any]:
        return self.people["modl"].make_cube("model", name=f"joins {next(self.numbers)}", upload=False)

    def association(self, what: str) -> dict[str, Any]:
        """A new one. ``what``: what there is, before a colon."""
        data, modl, bnch, oper = (self.people[name] for name in ("data", "modl", "bnch", "oper"))
        approved, ours = "approved", "organisation's approved"
        match what.partition(":")[0]:
            case "dataset that asked":
                return ask(data, asks_with_dataset(self._dataset(), self._benchmark(approved)))
            case "dataset that joined":
                asked = ask(data, asks_with_dataset(self._dataset(), self._benchmark(approved)))
                return dict(decide(bnch, asked, "APPROVED").json())
            case "model that asked":
                return ask(modl, asks_with_model(self._model(), self._benchmark(approved)))
            case "model that joined":
                asked = ask(modl, asks_with_model(self._model(), self._benchmark(approved)))
                return dict(decide(bnch, asked, "APPROVED").json())
            case "dataset that asked the organisation":
                return ask(data, asks_with_dataset(self._dataset(ours=True), self._benchmark(ours)))
            case "dataset that the organisation invited":
                return self._invited(ours, dataset=self._dataset(ours=True)["id"])
            case "model that joined the organisation's":
                model = oper.make_cube("model", name=f"j {next(self.numbers)}", upload=False, owner=self.organisation)
                return ask(oper, asks_with_model(model, self._benchmark(ours)))
        raise KeyError(what)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _post_datasets(self, request: Request, actor: Person) -> None:
        owners = {
            "for the organisation": {"owner": self.organisation},
            "for the data owner": {"owner": self.people["data"].party},
        }
        request.json = dataset_body(self.parts["preparator"]["id"]) | owners.get(request.row.what, {})

    def _patch_datasets_dataset_id(self, request: Request, actor: Person) -> None:
        version = self.world.sql("SELECT version FROM datasets WHERE id = ?", request.ids["dataset_id"])[0][0]
        values = {"site_label": "x", "is_valid": True, "is_active": True, "name": "x"}
        request.json = {name: values[name] for name in request.row.fields}
        request.headers = {"If-Match": f'"{version}"'}

    def _put_datasets_dataset_id_statistics(self, request: Request, actor: Person) -> None:
        request.json = {"dataset": request.ids["dataset_id"], "statistics": {"cases": 7}}

    def _post_associations(self, request: Request, actor: Person) -> None:
        benchmark = self._benchmark("approved")
        if request.row.what == "model owner's model":
            request.json = asks_with_model(self._model(), benchmark)
        elif request.row.what == "organisation's dataset":
            preparator = self.parts["preparator"]["id"]
            made = make_dataset(self.people["oper"], preparator, owner=self.organisation)
            request.json = asks_with_dataset(made, benchmark)
        else:
            request.json = asks_with_dataset(self._dataset(), benchmark)

    def _post_benchmarks_benchmark_id_invitations(self, request: Request, actor: Person) -> None:
        request.json = invites(model=self._model()["id"])

    def _get_associations_association_id(self, request: Request, actor: Person) -> None:
        request.ids["association_id"] = self.association(request.row.what)["id"]

    def _patch_associations_association_id(self, request: Request, actor: Person) -> None:
        made = self.association(request.row.what)
        request.ids["association_id"] = made["id"]
        request.json = {"priority": 1}
        request.headers = {"If-Match": f'"{made["version"]}"'}

    def _post_associations_association_id_decision(self, request: Request, actor: Person) -> None:
        request.ids["association_id"] = self.association(request.row.what)["id"]
        request.json = {"status": request.row.what.partition(": ")[2]}

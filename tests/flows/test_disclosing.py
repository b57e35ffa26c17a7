"""Submitting, withholding and retracting over a real wire: what is shown is what leaves, once, and only after a yes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from medperf.domain.disclosure import Exit
from medperf.domain.errors import (
    Conflict,
    Forbidden,
    Interrupted,
    InvalidInput,
    NotFound,
    ServerUnavailable,
    UsageError,
)
from medperf.domain.executions import Disclosure
from medperf.flows.choosing import Choice
from medperf.flows.disclosing import retract_result, submit_results, withhold_results
from medperf.flows.egress import list_egress
from medperf.flows.site import Site
from medperf.workspace.runs import LocalRun

from .conftest import Command, RunningServer
from .dataset_site import Person, Told, open_site
from .results_scene import METRICS, Stage, Study, another_model, keep_dataset, keep_run, log_in


@pytest.fixture(scope="module")
def stage(running_server: RunningServer) -> Iterator[Stage]:
    made = Stage.set(running_server)
    yield made
    made.world.client.close()


@pytest.fixture
def study(stage: Stage, medperf: Command) -> Study:
    """A study, and its data owner logged in here."""
    made = stage.study()
    log_in(stage.server, "data")
    return made


def policy(site: Site, text: str) -> None:
    path = site.workspace.path / "policy.toml"
    path.write_text(text)
    path.chmod(0o600)


def of(run: LocalRun) -> Choice:
    return Choice(run=str(run.execution))


def disclosures(study: Study, run: LocalRun) -> list[str | None]:
    """What the server has of each attempt."""
    found = study.data.get(f"/executions/{run.execution}").json()
    return [attempt["disclosure"] for attempt in found["attempts"]]


def has_predictions(site: Site, run: LocalRun) -> bool:
    return any(step.key == run.steps["infer"] for step in site.workspace.steps.ls())


def test_exactly_what_was_shown_leaves(study: Study, medperf: Command) -> None:
    person = Person()
    with open_site(person) as site:
        dataset = keep_dataset(site, study)
        run = keep_run(site, study, dataset)
        (done,) = submit_results(site, of(run))
        (entry,) = list_egress(site)
        (question,) = person.asked
        assert (entry.kind, entry.consent, entry.outcome) == (Exit.METRICS, "person", "answered")
        assert entry.body["metrics"] == METRICS
        for name in ("execution", "attempt", "uuid"):
            assert f"{name}: {json.dumps(entry.body[name])}" in question
        assert "metrics.AUC.Edema: 0.75" in question
        assert (done.disclosure, done.already, done.predictions) == (Disclosure.RELEASED, False, "deleted")
        assert done.run is not None
        assert done.run.disclosure is Disclosure.RELEASED
        assert done.result is not None
        assert done.result.metrics == {"AUC.Edema": 0.75}
        assert not has_predictions(site, run)
        assert site.workspace.pending.ls(site.credential().instance_id) == []
        (again,) = submit_results(site, of(run))
        assert (again.already, again.result) == (True, done.result)
        assert len(person.asked) == len(list_egress(site)) == 1
    assert disclosures(study, run) == ["RELEASED"]
    told = medperf("result", "submit", "-r", run.uuid[:8])
    assert told.code == 0
    assert f"result {done.result.id} was submitted before" in told.out


def test_a_no_sends_nothing(study: Study) -> None:
    with open_site(Person(yes=False)) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        with pytest.raises(Forbidden, match="did not agree"):
            submit_results(site, of(run))
        with pytest.raises(Forbidden, match="did not agree"):
            withhold_results(site, of(run))
        assert list_egress(site) == []
        assert has_predictions(site, run)
    assert disclosures(study, run) == ["UNDER_REVIEW"]


@pytest.mark.parametrize("asset", ["dataset", "model"])
def test_what_the_server_would_refuse_never_leaves(study: Study, medperf: Command, asset: str) -> None:
    """Withdrawn after the run: the metrics are not shown, not sent, and the inbox says what is left to do."""
    person = Person()
    with open_site(person) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        what = {"dataset": study.dataset} if asset == "dataset" else {"mlcube": run.model}
        ((column, number),) = what.items()
        study.world.sql(f"UPDATE associations SET status = 'REVOKED' WHERE {column}_id = ?", number)
        with pytest.raises(
            Conflict, match=f"Nothing was sent.* The {asset} is (REVOKED|not) in this benchmark"
        ) as error:
            submit_results(site, of(run))
        assert f"result withhold -r {run.execution}" in error.value.fix
        assert person.asked == list_egress(site) == []
        assert study.data.get(f"/executions/{run.execution}").json()["attempts"][0]["disclosure"] == "UNDER_REVIEW"
        command = "withhold" if asset == "dataset" else "submit"
        items = json.loads(medperf("inbox", "--format", "json").out)["items"]
        assert f"medperf result {command} -r {run.execution}" in [item["command"] for item in items]
        (done,) = withhold_results(site, of(run))
        assert done.disclosure is Disclosure.WITHHELD


def test_yes_counts_only_where_the_policy_says_so(study: Study, medperf: Command) -> None:
    with open_site(Person(yes=False)) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        refused = medperf("result", "submit", "-r", run.execution, "--yes")
        assert refused.code == 1
        assert '[release] metrics = "automatic"' in refused.err
        assert list_egress(site) == []
        policy(site, '[release]\nmetrics = "automatic"\n[retention]\npredictions = "keep"\n')
        answer = medperf("result", "submit", "-b", study.benchmark["id"], "-d", "chest", "--yes")
        assert answer.code == 0, answer.err
        assert "metrics.AUC.Edema: 0.75" in answer.err  # shown all the same
        assert "Kept the predictions" in answer.out
        assert "Next: medperf result view" in answer.out
        (entry,) = list_egress(site)
        assert entry.consent == "policy"
        assert has_predictions(site, run)
        # What is always asked for is asked for under any policy.
        withheld = keep_run(site, study, run.dataset, model=another_model(study, f"second {study.dataset}"))
        with pytest.raises(Forbidden, match="did not agree"):
            withhold_results(site, of(withheld))


def test_metrics_outside_the_contract_stay(study: Study) -> None:
    person = Person()
    with open_site(person) as site:
        dataset = keep_dataset(site, study)
        run = keep_run(site, study, dataset)
        for metrics in (
            {"AUC": {"Edema": 7}},
            {"AUC": {"Edema": 0.5}, "case0.txt": 1},
            {"AUC": {"Edema": "Miller, Anna"}},
            {"AUC": {"Edema": [0.1, 0.2]}},
            {"AUC": {"Edema": 0.123456789}},
            {},
        ):
            site.workspace.runs.change(run.uuid, metrics=metrics)
            with pytest.raises(InvalidInput, match="Nothing was sent"):
                submit_results(site, of(run))
        site.workspace.runs.change(run.uuid, metrics=METRICS, contract="sha256:" + "0" * 64)
        with pytest.raises(Conflict, match="contract"):
            submit_results(site, of(run))
        assert (person.asked, list_egress(site)) == ([], [])
    assert disclosures(study, run) == ["UNDER_REVIEW"]


@pytest.mark.parametrize("when", ["before", "answer", "written"])
def test_a_killed_submission_goes_on(study: Study, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Killed before the request, before its answer was read, and after it was written down: agreed to once, released once."""

    class Killed(BaseException):
        pass

    person = Person()
    with open_site(person) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        release = site.api.executions.release

        def dies(body: Any, *, idempotency_key: str) -> Any:
            if when == "answer":
                release(body, idempotency_key=idempotency_key)
            raise Killed

        if when == "written":
            monkeypatch.setattr(site.workspace.pending, "forget", lambda key: (_ for _ in ()).throw(Killed()))
        else:
            monkeypatch.setattr(site.api.executions, "release", dies)
        with pytest.raises(Killed):
            submit_results(site, of(run))
        assert len(site.workspace.pending.ls(site.credential().instance_id)) == 1
    monkeypatch.undo()
    log = Told()
    monkeypatch.setenv("MEDPERF_HOME", str(site.home))
    with open_site(person, log) as site:
        if when == "written":  # nothing waits any more: what was left to do is done all the same
            with pytest.raises(NotFound):
                submit_results(site, Choice(benchmark=study.benchmark["id"], dataset="chest"))
            assert site.workspace.pending.ls(site.credential().instance_id) == []
            assert not has_predictions(site, run)
        (done,) = submit_results(site, of(run))
        assert done.result is not None
        assert len(person.asked) == 1
        (entry,) = list_egress(site)
        assert entry.outcome == "answered"
        assert site.workspace.pending.ls(site.credential().instance_id) == []
        assert not has_predictions(site, run)
        assert done.already is (when != "before")
    assert disclosures(study, run) == ["RELEASED"]
    assert len(study.bench.get(f"/results?benchmark={study.benchmark['id']}").json()["items"]) == 1


@pytest.mark.parametrize("what", ["withhold", "retract"])
def test_an_answer_that_was_not_read_waits_for_nothing(
    study: Study, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Killed after the server did it: the same command again finds it done, and ends what waited."""

    class Killed(BaseException):
        pass

    def decide(site: Site) -> Any:
        if what == "withhold":
            return withhold_results(site, of(run), reason="in doubt")[0]
        return retract_result(site, of(run), reason="wrong")

    person = Person()
    with open_site(person) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        if what == "retract":
            submit_results(site, of(run))
        send = getattr(site.api.executions, what)

        def dies(body: Any, *, idempotency_key: str) -> Any:
            send(body, idempotency_key=idempotency_key)
            raise Killed

        monkeypatch.setattr(site.api.executions, what, dies)
        with pytest.raises(Killed):
            decide(site)
        asked = len(person.asked)
    with open_site(person) as site:
        assert decide(site).already
        assert site.workspace.pending.ls(site.credential().instance_id) == []
        assert (len(person.asked), list_egress(site)[0].outcome) == (asked, "answered")


def test_a_server_that_does_not_answer_is_told_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person()
    with open_site(person) as site:
        run = keep_run(site, study, keep_dataset(site, study))

        def silent(body: Any, *, idempotency_key: str) -> Any:
            raise ServerUnavailable("no_answer", "It is silent.", "Try again.")

        monkeypatch.setattr(site.api.executions, "withhold", silent)
        with pytest.raises(ServerUnavailable):
            withhold_results(site, of(run), reason="too few")
        monkeypatch.undo()
        monkeypatch.setenv("MEDPERF_HOME", str(site.home))
        (done,) = withhold_results(site, of(run), reason="too few")
        assert (done.disclosure, done.predictions) == (Disclosure.WITHHELD, "deleted")
        assert len(person.asked) == 1
        assert withhold_results(site, of(run), reason="too few")[0].already
        with pytest.raises(Conflict, match="WITHHELD"):
            submit_results(site, of(run))
    assert disclosures(study, run) == ["WITHHELD"]


def test_ctrl_c_while_it_goes_is_no_answer(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """It arrived, so the journal must not say that it was refused; and what was agreed to is not asked for again."""
    person = Person()
    with open_site(person) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        release = site.api.executions.release

        def cut(body: Any, *, idempotency_key: str) -> Any:
            release(body, idempotency_key=idempotency_key)
            raise Interrupted

        with monkeypatch.context() as changed:
            changed.setattr(site.api.executions, "release", cut)
            with pytest.raises(Interrupted):
                submit_results(site, of(run))
        assert [event.event for event in list_egress(site)[0].events] == ["sent", "unanswered"]
        assert submit_results(site, of(run))[0].already
        assert (len(person.asked), list_egress(site)[0].outcome) == (1, "answered")


def test_a_policy_that_was_changed_counts_for_what_got_no_answer(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    person = Person()
    with open_site(person) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        policy(site, '[release]\nmetrics = "automatic"\n')

        def silent(body: Any, *, idempotency_key: str) -> Any:
            raise ServerUnavailable("no_answer", "It is silent.", "Try again.")

        with monkeypatch.context() as changed:
            changed.setattr(site.api.executions, "release", silent)
            with pytest.raises(ServerUnavailable):
                submit_results(site, of(run))
        policy(site, '[release]\nmetrics = "ask"\n')
        with pytest.raises(Forbidden, match="--yes does not count"):
            submit_results(site, of(run), yes=True)
        assert (disclosures(study, run), person.asked) == (["UNDER_REVIEW"], [])
        submit_results(site, of(run))
        assert (disclosures(study, run), len(person.asked)) == (["RELEASED"], 1)


def test_all_that_wait_and_each_a_decision(study: Study, medperf: Command) -> None:
    class Choosy(Person):
        def confirm(self, question: str, *, default: bool = False) -> bool:
            super().confirm(question, default=default)
            return "model maker" in question

    person, told = Choosy(), Told()
    with open_site(person, told) as site:
        dataset = keep_dataset(site, study)
        yes = keep_run(site, study, dataset)
        no = keep_run(site, study, dataset, model=another_model(study, f"other {study.dataset}"))
        failed = keep_run(
            site, study, dataset, model=another_model(study, f"bad {study.dataset}"), state="FAILED", metrics=None
        )
        everything = Choice(benchmark=study.benchmark["id"], dataset="chest")
        done = submit_results(site, everything)
        assert [one.execution for one in done] == [yes.execution]
        assert "still under review" in told.text
        assert len(person.asked) == 2
        person.yes = True
        with pytest.raises(Conflict, match="no metrics"):
            submit_results(site, of(failed))
        with pytest.raises(NotFound, match="no run of model"):
            submit_results(site, Choice(benchmark=study.benchmark["id"], dataset="chest", models=(9999,)))
        with pytest.raises(UsageError):
            submit_results(site, Choice(benchmark=study.benchmark["id"]))
        with pytest.raises(UsageError):
            submit_results(site, Choice(run="1", dataset="chest"))
        (chosen,) = withhold_results_of(
            site, Choice(benchmark=study.benchmark["id"], dataset="chest", models=(no.model,))
        )
        assert chosen.execution == no.execution
        with pytest.raises(NotFound, match="wait for a decision"):
            submit_results(site, everything)
    assert (disclosures(study, yes), disclosures(study, no)) == (["RELEASED"], ["WITHHELD"])


def withhold_results_of(site: Site, choice: Choice) -> list[Any]:
    site.ask = Person()
    return withhold_results(site, choice)


def test_predictions_that_another_run_needs_stay(study: Study) -> None:
    with open_site() as site:
        dataset = keep_dataset(site, study)
        first = keep_run(site, study, dataset, predictions="same")
        second = keep_run(site, study, dataset, predictions="same", reason="once more")
        (done,) = submit_results(site, Choice(run=first.uuid))
        assert done.predictions == "kept"
        assert has_predictions(site, second)
        (other,) = withhold_results(site, Choice(run=second.uuid), reason="the first one is out")
        assert other.predictions == "deleted"


def test_retraction(study: Study, medperf: Command) -> None:
    person = Person()
    with open_site(person) as site:
        run = keep_run(site, study, keep_dataset(site, study))
        with pytest.raises(Conflict, match="UNDER_REVIEW"):
            retract_result(site, of(run), reason="never released")
        with pytest.raises(InvalidInput, match="says nothing"):
            retract_result(site, of(run), reason="...")
        (released,) = submit_results(site, of(run))
        assert released.result is not None
        number = released.result.id
        assert medperf("result", "retract", number, "--reason", "x", "-r", "1").code == 2
        refused = medperf("result", "retract", number, "--reason", "wrong labels")  # nobody there to ask
        assert refused.code == 1
        done = retract_result(site, Choice(), reason="wrong  labels", result=number)
        assert "wrong labels" in person.asked[-1]
        assert done.run is not None
        assert done.run.disclosure is Disclosure.RETRACTED
        assert retract_result(site, of(run), reason="wrong labels").already
    page = medperf("result", "view", number)
    assert "state: retracted" in page.out
    assert "reason: wrong labels" in page.out
    assert "0.75" in page.out  # what was measured here is still known here
    assert medperf("result", "retract", number, "--reason", "again", "--format", "json").json["already"]
    assert disclosures(study, run) == ["RETRACTED"]


def test_who_may_not_release_is_told_before_being_asked(stage: Stage, medperf: Command) -> None:
    _, data, _ = stage.people
    organisation = data.post("/organisations", {"name": f"Hospital {stage.studies}"}).json()
    made = stage.study(owner=organisation["id"])
    operator = stage.world.person(f"operator{stage.studies}")
    invited = data.post(
        f"/organisations/{organisation['id']}/invitations", {"username": operator.name, "rights": ["operate"]}
    )
    assert invited.status_code == 201, invited.text
    accepted = operator.post(f"/invitations/{invited.json()['id']}/answer", {"accept": True})
    assert accepted.status_code < 300, accepted.text
    log_in(stage.server, operator.name)
    person = Person()
    with open_site(person) as site:
        run = keep_run(site, made, keep_dataset(site, made))
        for refused in (
            lambda: submit_results(site, of(run)),
            lambda: withhold_results(site, of(run)),
            lambda: retract_result(site, of(run), reason="because"),
        ):
            with pytest.raises(Forbidden, match="right to release") as found:
                refused()
            assert found.value.what.startswith("Nothing was sent")
            assert "medperf organisation members" in found.value.fix
        assert (person.asked, list_egress(site)) == ([], [])


def test_from_another_machine(stage: Stage, study: Study) -> None:
    """Withholding and retracting need no run here; submitting does."""
    execution = study.finished()
    released, result = study.another("else").released()
    with open_site() as site:
        with pytest.raises(NotFound):
            submit_results(site, Choice(run=str(execution)))
        (done,) = withhold_results(site, Choice(run=str(execution)))
        assert (done.run, done.predictions) == (None, "none")
        gone = retract_result(site, Choice(run=str(released)), reason="wrong labels")
        assert gone.result is not None
        assert gone.result.id == result

"""Joining a benchmark: with a real compatibility test, over a real wire, as each of the two sides."""

from __future__ import annotations

from typing import Any

import pytest

from medperf.domain.associations import Status
from medperf.domain.errors import Forbidden, InvalidInput, ServerUnavailable, UsageError
from medperf.flows.associations import Which, decide_association
from medperf.flows.egress import list_egress
from medperf.flows.joining import associate_model
from medperf.flows.site import Site

from .association_scene import Act, Scene, act, scene
from .dataset_site import Person, Told, open_site

__all__ = ["act", "scene"]
JSON = ("--format", "json")


@pytest.fixture
def model(scene: Scene, act: Act) -> int:
    return scene.model(act)


@pytest.fixture
def maker(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model owner's site, with whoever sits there."""

    def opened(person: Person | None = None, told: Told | None = None) -> Site:
        monkeypatch.setenv("MEDPERF_HOME", str(scene.home("maker")))
        return open_site(person, told)

    return opened


def listed(act: Act, model: int, who: str = "maker") -> list[str]:
    items = act(who, "association", "ls", "-m", model, *JSON).json["items"]
    return [item["status"] for item in items]


def test_a_model_is_tested_shown_and_asked_for(act: Act, model: int) -> None:
    answer = act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes")
    assert answer.code == 0, answer.err
    assert "mean_score" in answer.out
    assert "The compatibility test passed" in answer.out
    assert "It is PENDING." in answer.out
    assert "testbenchmarkowner approves it with: medperf association approve" in answer.out
    again = act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes", *JSON)
    assert (again.json["already"], again.json["report_id"]) == (True, None)
    assert "nothing was sent" in act("maker", "mlcube", "associate", "-b", 1, "-m", model).out
    page = act("bench", "association", "view", "-b", 1, "-m", model).out
    assert "mean_score" in page
    assert "testmodelowner" in page
    approved = act("bench", "association", "approve", "-b", 1, "-m", model, "--reason", "Welcome")
    assert approved.code == 0, approved.err
    twice = act("bench", "association", "approve", "-b", 1, "-m", model)
    assert (twice.code, "already: nothing was changed" in twice.out) == (0, True)
    document = act("maker", "association", "view", "-b", 1, "-m", model, *JSON).json
    assert [event["status"] for event in document["events"]] == ["PENDING", "APPROVED"]
    assert document["events"][1]["reason"] == "Welcome"
    assert document["report"]["model"]["mlcube"] == model
    joined = act("maker", "mlcube", "associate", "-b", 1, "-m", model, *JSON).json
    assert (joined["already"], joined["association"]["status"]) == (True, "APPROVED")


def test_consent_is_asked_with_the_metrics_in_sight(act: Act, model: int, maker: Any) -> None:
    person = Person(yes=False)
    with maker(person) as site, pytest.raises(Forbidden) as error:
        associate_model(site, 1, model)
    assert error.value.code == "not_agreed"
    assert "mean_score: 0.5" in person.asked[0]
    assert "testbenchmarkowner" in person.asked[0]
    assert listed(act, model) == []


def test_nobody_approves_their_own(act: Act, model: int) -> None:
    assert act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes").code == 0
    for words in (("approve",), ("reject", "--reason", "no")):
        answer = act("maker", "association", *words, "-b", 1, "-m", model, *JSON)
        assert answer.error["code"] == "own_request"
        assert "medperf association cancel " in answer.error["fix"]
    assert listed(act, model) == ["PENDING"]
    assert act("bench", "association", "cancel", "-b", 1, "-m", model, *JSON).error["code"] == "not_your_request"
    assert act("bench", "association", "revoke", "-b", 1, "-m", model, *JSON).error["code"] == "wrong_association_state"
    assert act("maker", "association", "cancel", "-b", 1, "-m", model).code == 0
    assert "CANCELLED already" in act("maker", "association", "cancel", "-b", 1, "-m", model).out


def test_an_invited_model_is_tested_to_say_yes(act: Act, model: int, maker: Any) -> None:
    invited = act("bench", "association", "invite", "-b", 1, "-m", model, *JSON)
    assert invited.code == 0, invited.err
    assert invited.json["association"]["status"] == "PENDING"
    assert act("bench", "association", "invite", "-b", 1, "-m", model, *JSON).json["already"]
    assert act("bench", "association", "approve", "-b", 1, "-m", model, *JSON).error["code"] == "own_request"
    other = act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes", *JSON)
    number = invited.json["association"]["id"]
    assert other.error["fix"] == f"Approve it with: medperf association approve {number}"
    inbox = act("maker", "inbox", *JSON).json["items"]
    assert f"medperf association approve {number}" in [item["command"] for item in inbox]
    with maker(Person(yes=False)) as site, pytest.raises(Forbidden, match="did not agree"):
        decide_association(site, Which(id=number), Status.APPROVED)
    done = act("maker", "association", "approve", number, "--yes")
    assert done.code == 0, done.err
    assert "mean_score" in done.out
    assert act("bench", "association", "view", number, *JSON).json["report"]["model"]["mlcube"] == model


def test_an_invited_model_can_be_refused(act: Act, model: int) -> None:
    number = act("bench", "association", "invite", "-b", 1, "-m", model, *JSON).json["association"]["id"]
    assert act("maker", "association", "reject", number, "--reason", "Not ready").code == 0
    assert act("bench", "association", "view", number, *JSON).json["events"][-1]["reason"] == "Not ready"
    again = act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes", *JSON)
    assert again.json["association"]["status"] == "PENDING", "what has ended may be asked again, by either side"


def test_a_report_of_something_else_is_not_sent(scene: Scene, act: Act, model: int, maker: Any) -> None:
    other = scene.model(act, changed=True)
    of_another = act("maker", "test", "run", "-b", 1, "-m", other, *JSON).json["report_id"]
    own = [f"--data_path={scene.workflow.data}", f"--labels_path={scene.workflow.labels}"]
    on_other_data = act("maker", "test", "run", "-b", 1, "-m", model, *own, *JSON).json["report_id"]
    person = Person()
    with maker(person) as site:
        site.api.associations.ask = None  # type: ignore[method-assign,assignment] # nothing is sent
        for report, code, said in (
            (of_another, "report_mismatch", f"MLCube {other}, not {model}"),
            (on_other_data, "demo_mismatch", "unknown digest"),
        ):
            with pytest.raises(InvalidInput, match=said) as error:
                associate_model(site, 1, model, report=report)
            assert error.value.code == code
    assert person.asked == []
    unknown = act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--report", "0000", *JSON)
    assert unknown.error["code"] == "unknown_report"
    assert listed(act, model) == []
    good = act("maker", "test", "run", "-b", 1, "-m", model, *JSON).json["report_id"]
    sent = act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--report", good[:20], "-y", *JSON)
    assert sent.code == 0, sent.err
    assert sent.json["report_id"] == good


def test_what_cannot_join_is_said_before_the_test(scene: Scene, act: Act, model: int) -> None:
    codes = {
        ("maker", 1, 1): "wrong_kind",
        ("maker", 99, model): "no_such_benchmark",
        ("maker", 1, 999): "no_such_mlcube",
        ("bench", 1, 2): "reference_model",
    }
    ids = {item["kind"]: item["id"] for item in act("bench", "mlcube", "ls", "--mine", *JSON).json["items"]}
    for (who, benchmark, cube), code in codes.items():
        number = {1: ids["preparator"], 2: ids["model"]}.get(cube, cube)
        owner = "bench" if code == "wrong_kind" else who
        answer = act(owner, "mlcube", "associate", "-b", benchmark, "-m", number, "--yes", *JSON)
        assert answer.error["code"] == code, answer.err
    stranger = act("bench", "mlcube", "associate", "-b", 1, "-m", model, "--yes", *JSON)
    assert stranger.error["code"] == "not_owner"
    assert f"medperf association invite -b 1 -m {model}" in stranger.error["fix"]
    assert "Only its owner" in act("data", "mlcube", "associate", "-b", 1, "-m", model, *JSON).error["what"]
    assert act("maker", "mlcube", "deactivate", model).code == 0
    assert act("maker", "mlcube", "associate", "-b", 1, "-m", model, *JSON).error["code"] == "invalid_mlcube"


def test_roles_that_may_not(act: Act, model: int) -> None:
    assert act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes").code == 0
    hidden = act("data", "association", "approve", "-b", 1, "-m", model, *JSON)
    assert hidden.error["code"] == "no_such_association"
    assert act("maker", "association", "set_priority", "-b", 1, "-m", model, 5, *JSON).error["code"] == "not_owner"
    assert act("maker", "association", "invite", "-b", 1, "-m", model, *JSON).error["code"] == "asked_by_the_other_side"
    assert act("bench", "association", "approve", "-b", 1, "-m", model).code == 0
    assert act("data", "association", "revoke", "-b", 1, "-m", model, *JSON).error["code"] == "not_owner"
    assert act("bench", "association", "revoke", "-b", 1, "-m", model, "--reason", "Old").code == 0
    assert listed(act, model) == ["REVOKED"]


def test_members_act_within_their_rights(scene: Scene, act: Act) -> None:
    """Who operates asks; who manages decides. What is missing is said before anything runs."""
    assert act("maker", "organisation", "create", "Lab").code == 0
    sent = act("maker", "organisation", "invite", "Lab", "testdataowner", "--operate", *JSON).json["id"]
    assert act("data", "organisation", "accept", sent).code == 0
    models = [scene.model(act, owner="Lab"), scene.model(act, owner="Lab")]
    asked = act("data", "mlcube", "associate", "-b", 1, "-m", models[0], "--yes", *JSON)
    assert asked.json["association"]["status"] == "PENDING", asked.err
    number = act("bench", "association", "invite", "-b", 1, "-m", models[1], *JSON).json["association"]["id"]
    refused = act("data", "association", "approve", number, "--yes", "--no-cache", *JSON)
    assert refused.error["code"] == "missing_right"
    assert "right to manage" in refused.error["what"]
    assert act("data", "association", "reject", number, *JSON).error["code"] == "missing_right"
    assert act("maker", "association", "approve", number, "--yes").code == 0


def test_priorities(act: Act, model: int) -> None:
    assert act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes").code == 0
    assert "has the priority 7 now" in act("bench", "association", "set_priority", "-b", 1, "-m", model, 7).out
    assert "Nothing was changed" in act("bench", "association", "set_priority", "-b", 1, "-m", model, 7).out
    number = act("bench", "association", "view", "-b", 1, "-m", model, *JSON).json["id"]
    changed = act("bench", "association", "set_priority", number, "--priority", "-3", *JSON)
    assert (changed.json["association"]["priority"], changed.json["already"]) == (-3, False)
    assert act("bench", "association", "set_priority", "-b", 1, "-m", model).code == 2
    assert act("bench", "association", "set_priority", number, 10_000_000, *JSON).error["code"] == "bad_priority"


def test_auto_approval_is_for_those_on_the_list(scene: Scene, act: Act, model: int) -> None:
    party = act("maker", "mlcube", "view", model, *JSON).json["owner"]["id"]
    assert (
        act("bench", "benchmark", "edit", 1, "--auto-models-of", "nobody-here", *JSON).error["code"] == "unknown_owner"
    )
    assert act("bench", "benchmark", "edit", 1, "--auto-models", "always", "--auto-models-of", party).code == 2
    edited = act("bench", "benchmark", "edit", 1, "--auto-models-of", party, *JSON)
    assert edited.json["changed"] == ["auto_models"], edited.err
    assert edited.json["benchmark"]["auto_models"] == {"mode": "allow_list", "parties": [party]}
    try:
        joined = act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes")
        assert "APPROVED at once" in joined.out
        # By name, now that they own something in the benchmark.
        named = act("bench", "benchmark", "edit", 1, "--auto-models-of", "testmodelowner", *JSON)
        assert named.json["changed"] == []
        assert f"on a list: {party}" in act("bench", "benchmark", "view", 1).out
        ours = scene.model(act, who="data")
        assert (
            act("data", "mlcube", "associate", "-b", 1, "-m", ours, "--yes", *JSON).json["association"]["status"]
            == "PENDING"
        )
    finally:
        assert act("bench", "benchmark", "edit", 1, "--auto-models", "never").code == 0


# ------------------------------------------------------------------------------------------------- answers never heard


@pytest.mark.parametrize("arrived", [True, False])
def test_a_request_whose_answer_was_never_heard(act: Act, model: int, maker: Any, arrived: bool) -> None:
    with maker() as site:
        ask = site.api.associations.ask

        def killed(*arguments: Any, **named: Any) -> Any:
            if arrived:
                ask(*arguments, **named)
            raise KeyboardInterrupt

        site.api.associations.ask = killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            associate_model(site, 1, model)
        assert len(site.workspace.pending.ls(site.credential().instance_id)) == 1
    person = Person()
    with maker(person) as site:
        again = associate_model(site, 1, model)
        assert (again.already, again.association.status) == (arrived, "PENDING")
        assert site.workspace.pending.ls(site.credential().instance_id) == []
    assert person.asked == [], "what was agreed to once is not asked for again"
    assert listed(act, model) == ["PENDING"]


def test_an_old_request_is_not_taken_for_the_new_one(act: Act, model: int, maker: Any) -> None:
    """Its answer was never heard, it arrived, and was rejected meanwhile: the same command asks anew."""
    with maker() as site:
        ask = site.api.associations.ask

        def killed(*arguments: Any, **named: Any) -> Any:
            ask(*arguments, **named)
            raise KeyboardInterrupt

        site.api.associations.ask = killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            associate_model(site, 1, model)
    assert act("bench", "association", "reject", "-b", 1, "-m", model).code == 0
    person = Person()
    with maker(person) as site:
        asked = associate_model(site, 1, model)
    assert (asked.already, asked.association.status, len(person.asked)) == (False, "PENDING", 1)
    assert listed(act, model) == ["PENDING"]


def test_a_decision_whose_answer_was_never_heard(
    scene: Scene, act: Act, model: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes").code == 0
    monkeypatch.setenv("MEDPERF_HOME", str(scene.home("bench")))
    which = Which(benchmark=1, model=model)
    with open_site() as site:
        decide = site.api.associations.decide

        def killed(*arguments: Any, **named: Any) -> Any:
            decide(*arguments, **named)
            raise KeyboardInterrupt

        site.api.associations.decide = killed  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            decide_association(site, which, Status.REJECTED)
    assert act("maker", "mlcube", "associate", "-b", 1, "-m", model, "--yes").code == 0
    monkeypatch.setenv("MEDPERF_HOME", str(scene.home("bench")))
    with open_site() as site:
        done = decide_association(site, which, Status.REJECTED)
        assert (done.already, done.association.status) == (False, "REJECTED"), "the old answer is not of this request"
        assert decide_association(site, which, Status.REJECTED).already
        assert site.workspace.pending.ls(site.credential().instance_id) == []


# ------------------------------------------------------------------------------------------------------------- datasets


def test_an_invited_dataset_says_yes_through_the_one_door(
    scene: Scene, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = scene.dataset(monkeypatch)
    number = act("bench", "association", "invite", "-b", 1, "-d", dataset, *JSON).json["association"]["id"]
    assert "invites your dataset" in act("data", "inbox").out
    person, told, which = Person(), Told(), Which(id=number)
    monkeypatch.setenv("MEDPERF_HOME", str(scene.home("data")))
    with open_site(person, told) as site:
        with pytest.raises(Forbidden, match="--yes does not count"):
            decide_association(site, which, Status.APPROVED, yes=True)
        done = decide_association(site, which, Status.APPROVED, reason="Glad to")
        assert (done.association.status, done.already) == ("APPROVED", False)
        assert decide_association(site, which, Status.APPROVED).already
        newest = list_egress(site, limit=1)[0]
        assert (newest.kind, newest.consent) == ("association_approval", "person")
        assert newest.body == {"association": number, "status": "APPROVED", "reason": "Glad to"}
        assert len(person.asked) == 1
        assert '"Glad to"' in person.asked[0]
        decide_association(site, which, Status.REVOKED, reason="Moved away")
        newest = list_egress(site, limit=1)[0]
        assert (newest.kind, newest.consent, newest.outcome) == ("association_end", "automatic", "answered")
        assert newest.body == {"association": number, "status": "REVOKED", "reason": "Moved away"}
        assert (len(person.asked), '"Moved away"' in told.text) == (1, True), "shown, not asked"
    seen = act("bench", "association", "view", number, *JSON).json["events"]
    assert [event["reason"] for event in seen] == [None, "Glad to", "Moved away"]


def test_a_decision_about_a_dataset_survives_a_silent_server(
    scene: Scene, act: Act, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = scene.dataset(monkeypatch)
    number = act("bench", "association", "invite", "-b", 1, "-d", dataset, *JSON).json["association"]["id"]
    monkeypatch.setenv("MEDPERF_HOME", str(scene.home("data")))
    with open_site() as site:
        decide = site.api.associations.decide

        def deaf(*arguments: Any, **named: Any) -> Any:
            decide(*arguments, **named)
            raise ServerUnavailable("no_answer", "No answer.")

        site.api.associations.decide = deaf  # type: ignore[method-assign]
        with pytest.raises(ServerUnavailable):
            decide_association(site, Which(id=number), Status.APPROVED)
    person = Person(yes=False)
    with open_site(person) as site:
        assert decide_association(site, Which(id=number), Status.APPROVED).already
        assert [event.event for event in list_egress(site, limit=1)[0].events] == ["sent", "unanswered", "answered"]
        assert site.workspace.pending.ls(site.credential().instance_id) == []
    assert person.asked == []
    approved = act("data", "association", "approve", "-b", 1, "-d", dataset)
    assert f"medperf run -b 1 -d {dataset}" in approved.out
    waiting = [item for item in act("data", "inbox", *JSON).json["items"] if item["dataset"] == dataset]
    assert [(item["kind"], item["command"]) for item in waiting] == [("run", f"medperf run -b 1 -d {dataset}")]
    assert act("bench", "benchmark", "view", 1, *JSON).json["reference_model"] in waiting[0]["models"]


def test_a_changed_dataset_does_not_say_yes(scene: Scene, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = scene.dataset(monkeypatch)
    number = act("bench", "association", "invite", "-b", 1, "-d", dataset, *JSON).json["association"]["id"]
    monkeypatch.setenv("MEDPERF_HOME", str(scene.home("data")))
    with open_site() as site:
        local = next(one for one in site.workspace.datasets.ls() if dataset in one.registered.values())
        (local.data / "case1.txt").write_text("edited")
        with pytest.raises(InvalidInput) as error:
            decide_association(site, Which(id=number), Status.APPROVED)
        assert error.value.code == "data_changed"
        ended = decide_association(site, Which(id=number), Status.REJECTED)
        assert ended.association.status == "REJECTED", "saying no needs no data"


def test_which_one_is_named_once() -> None:
    for given in (
        {},
        {"id": 1, "model": 2},
        {"benchmark": 1},
        {"benchmark": 1, "dataset": 1, "model": 1},
        {"model": 1},
    ):
        with pytest.raises(UsageError):
            Which(**given)

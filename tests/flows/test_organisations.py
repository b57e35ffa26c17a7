"""Organisations from the command line, against a real server."""

from __future__ import annotations

from medperf.testing.workflows import Workflow

from .conftest import Command


def test_an_organisation_from_its_beginning(online: Command, workflow: Workflow) -> None:
    made = online("organisation", "create", "Hospital A", "--format", "json").json
    assert made["rights"] == ["manage", "operate", "release"]
    assert online("organisation", "invite", "hospital a", "testmodelowner", "--operate").code == 0
    assert online("organisation", "invite", "Hospital A", "nobody").code == 0
    assert "Hospital A (manage, operate, release)" in online("status").out
    folder = workflow.folder / "model" / "mlcube"
    assert online("mlcube", "package", folder).code == 0
    files = ("--mlcube-file", folder / "deploy/mlcube.yaml", "--parameters-file", folder / "deploy/parameters.yaml")
    ours = online("mlcube", "submit", "--name", "net", *files, "--owner", "Hospital A", "--format", "json")
    assert ours.json["owner"] == {"id": made["id"], "name": "Hospital A", "kind": "organisation"}
    again = online("mlcube", "submit", "--name", "net", *files, "--owner", str(made["id"]), "--format", "json")
    assert again.error["code"] == "name_taken"
    # One's own names are apart from the organisation's, and both are "mine".
    mine = online("mlcube", "submit", "--name", "net", *files, "--format", "json")
    assert mine.code == 0, mine.err
    listed = online("mlcube", "ls", "--mine", "--name", "net", "--format", "json").json["items"]
    assert [one["owner"]["kind"] for one in listed] == ["organisation", "person"]
    refused = online("mlcube", "submit", "--name", "x", *files, "--owner", "Elsewhere", "--format", "json")
    assert refused.error["code"] == "unknown_organisation"

    assert online("login", "-u", "testmodelowner", "-p", "test").code == 0
    (invitation,) = online("organisation", "invitations", "--format", "json").json["items"]
    assert online("organisation", "accept", invitation["id"]).code == 0
    assert online("organisation", "members", "Hospital A", "--format", "json").json["items"][1]["rights"] == ["operate"]
    renaming = online("organisation", "rename", "Hospital A", "B", "--format", "json").error
    assert renaming["code"] == "missing_right"
    assert renaming["fix"].endswith("; see: medperf organisation members 'Hospital A'")
    mine = online("mlcube", "ls", "--mine", "--format", "json").json["items"]
    assert [one["id"] for one in mine] == [ours.json["id"]]

    assert online("login", "-u", "testbenchmarkowner", "-p", "test").code == 0
    assert online("organisation", "leave", "Hospital A", "--format", "json").error["code"] == "last_manager"
    none = online("organisation", "set-rights", "Hospital A", "testmodelowner")
    assert (none.code, "--manage, --operate or --release" in none.err) == (2, True)
    stranger = online("organisation", "remove", "Hospital A", "nobody").err
    assert "List them with: medperf organisation members 'Hospital A'" in stranger
    assert online("organisation", "set-rights", "Hospital A", "testmodelowner", "--manage").code == 0
    (waiting,) = online("organisation", "invitations", "Hospital A", "--format", "json").json["items"]
    assert (waiting["username"], waiting["rights"]) == ("nobody", ["operate"])
    assert online("organisation", "cancel-invitation", "Hospital A", waiting["id"]).code == 0
    assert online("organisation", "rename", "Hospital A", "Hospital B").code == 0
    assert online("organisation", "leave", "Hospital B").code == 0
    assert online("organisation", "view", str(made["id"]), "--format", "json").error["code"] == "no_such_organisation"

    assert online("login", "-u", "admin", "-p", "admin").code == 0
    refused = online("user", "disable", "testmodelowner", "--format", "json").error
    assert refused["code"] == "last_manager"
    assert str(made["id"]) in refused["what"]
    assert online("user", "disable", "testmodelowner", "--leave-unmanaged").code == 0

"""The site's own yes to a model: a person here accepts the digest of all that runs, or the policy did. A benchmark's approval never counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medperf.domain.errors import Forbidden, InvalidInput
from medperf.domain.sitepolicy import FILE_NAME, Answer, Decision, ModelOffer, TaskLimits, accepts_model
from medperf.domain.states import Kind
from medperf.flows.cubes import check_usable
from medperf.flows.policy import run_confinement, site_policy
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.models import MLCubeView
    from medperf.workspace.acceptances import Acceptance

BY_POLICY = FILE_NAME


def offer_of(site: Site, mlcube: MLCubeView) -> ModelOffer:
    """A registered model as it would run here.

    Raises:
        InvalidInput: ``wrong_kind``, ``invalid_mlcube``; ``no_form``: it was not tested in a form that this site runs.
    """
    from medperf.wire.executions import cube_digest

    check_usable(mlcube, Kind.MODEL)
    form = site.engine.form
    if form not in mlcube.forms:
        raise InvalidInput(
            "no_form",
            f"MLCube {mlcube.id} ({mlcube.name}) was tested as {', '.join(sorted(mlcube.forms)) or 'nothing'}, but {site.engine.name} runs {form}.",
            "Ask its owner for a version that was tested in this form.",
        )
    digest = cube_digest({name: ref.digest for name, ref in mlcube.files.items()})
    return ModelOffer(owner=mlcube.owner.id, digest=digest, form=form, image=_image(mlcube) if form == "oci" else None)


def acceptance(site: Site, offer: ModelOffer) -> Decision:
    """Whether this model may run here as it stands: yes, no, or a person is asked."""
    kept = site.workspace.acceptances.find(offer.digest, offer.form)
    return accepts_model(site_policy(site), offer, said=kept.accepted if kept is not None else None)


def accept_model(site: Site, model_id: int, *, yes: bool = False) -> Acceptance:
    """Have a person look at a model and accept it, whatever was answered before. What the policy accepts needs nobody.

    Args:
        yes: the person said beforehand not to be asked. That counts only where the policy accepts the model.

    Returns:
        What is kept; ``who`` is `BY_POLICY` where the policy spoke: that is not kept.

    Raises:
        Forbidden: ``model_refused``: the policy or the person says no; ``policy_asks``.
    """
    view = site.api.mlcubes.get(model_id)
    offer = offer_of(site, view)
    decision = accepts_model(site_policy(site), offer)
    if decision.answer is Answer.NO:
        raise refused(view, decision)
    if decision.answer is Answer.YES:
        return _answer(site, view, offer, accepted=True, who=BY_POLICY)
    kept = site.workspace.acceptances.find(offer.digest, offer.form)
    if kept is not None and kept.accepted:
        return kept
    if yes:
        raise asks(view)
    found = ask_person(site, view, offer)
    if not found.accepted:
        raise refused(view, acceptance(site, offer))
    return found


def list_accepted(site: Site) -> list[Acceptance]:
    """Every answer that a person gave here, newest first; refusals too. No server is asked."""
    return site.workspace.acceptances.ls()


def ask_person(site: Site, view: MLCubeView, offer: ModelOffer, *, asked: TaskLimits | None = None) -> Acceptance:
    """Show a model to a person, and keep the answer: it holds for this digest until somebody answers anew.

    Args:
        asked: limits that the command asks for.
    """
    found = _answer(site, view, offer, accepted=False, who=site.credential().username, asked=asked)
    question = "\n".join(
        (
            f"MLCube {view.id} ({view.name}) would run on this site's data:",
            f"  owner: {view.owner.name} ({view.owner.id})",
            f"  digest: {offer.digest}",
            f"  form: {offer.form}" + (f", from {offer.image}" if offer.image else ""),
            f"  it gets: {found.resources}, no network, and nothing to write but its predictions",
            "Accept it?",
        )
    )
    from dataclasses import replace

    accepted = site.ask.confirm(question)
    return site.workspace.acceptances.keep(replace(found, accepted=accepted))


def refused(view: MLCubeView, decision: Decision) -> Forbidden:
    """The error for a model that does not run here."""
    said = decision.reason.startswith("A person")
    return Forbidden(
        "model_refused",
        f"MLCube {view.id} ({view.name}) does not run here: {decision.reason}",
        f"Change the answer with: medperf model accept {view.id}"
        if said
        else f"Only {FILE_NAME} of this site changes that.",
        details={"model": view.id},
    )


def asks(view: MLCubeView) -> Forbidden:
    """The refusal of ``--yes`` for a model that nobody here accepted."""
    return Forbidden(
        "policy_asks",
        f"Nobody here has accepted MLCube {view.id} ({view.name}), and {FILE_NAME} has a person asked, so --yes does not count.",
        f"Leave --yes out and answer; or accept it with: medperf model accept {view.id}",
        details={"model": view.id},
    )


def _image(mlcube: MLCubeView) -> str | None:
    """What would be pulled from a registry; None where the image comes as a file."""
    from medperf.domain.manifests import parse_manifest

    if "image" not in mlcube.forms["oci"] or mlcube.manifest_text is None:
        return None
    return parse_manifest(mlcube.manifest_text.encode()).docker_image


def _answer(
    site: Site, view: MLCubeView, offer: ModelOffer, *, accepted: bool, who: str, asked: TaskLimits | None = None
) -> Acceptance:
    from medperf.workspace.acceptances import Acceptance

    return Acceptance(
        digest=offer.digest,
        form=offer.form,
        accepted=accepted,
        model=view.id,
        name=view.name,
        owner=view.owner.id,
        owner_name=view.owner.name,
        resources=_resources(site, asked),
        who=who,
    )


def _resources(site: Site, asked: TaskLimits | None) -> str:
    """What one run of it may take, in words."""
    limits = run_confinement(site, site_policy(site), "infer", asked).limits
    processors = "all processors" if limits.cpus is None else f"{limits.cpus:g} processors"
    gib = 1024**3
    return (
        f"{limits.wall_seconds:g} s, {limits.memory_bytes / gib:.3g} GiB of memory, {processors}, "
        f"{limits.output_bytes / gib:.3g} GiB of output"
    )

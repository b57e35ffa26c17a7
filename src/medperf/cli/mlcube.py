"""``medperf mlcube``: registered containers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.editing import add_mlcube_editing
from medperf.cli.options import (
    LimitOption,
    MineOption,
    NameOption,
    OwnedByOption,
    OwnerOption,
    SearchOption,
    SortOption,
    StateOption,
    ValidOption,
    YesOption,
)
from medperf.cli.output import Column
from medperf.domain.errors import UsageError
from medperf.domain.states import Kind

if TYPE_CHECKING:
    from medperf.wire.models import MLCubeView

app = noun("mlcube", "Make, package, submit and look up MLCubes (registered containers).", "medperf mlcube ls --mine")

#: Which option of ``submit`` takes which packaged file.
_OPTIONS = {
    "manifest": "--mlcube-file",
    "parameters": "--parameters-file",
    "additional": "--additional-file",
    "image": "--image-file",
}


@example(
    app,
    "submit",
    "medperf mlcube submit --name my-prep-cube \\",
    "    --mlcube-file https://example.com/prep/mlcube.yaml \\",
    "    --parameters-file https://example.com/prep/parameters.yaml",
    "medperf mlcube submit --name my-model --mlcube-file my_model/mlcube/deploy/mlcube.yaml \\",
    "    --parameters-file my_model/mlcube/deploy/parameters.yaml",
    "medperf mlcube submit --from my_model",
)
def submit(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", "-n", metavar="NAME", help="Its name, unique among its owner's; with --from the manifest's."
        ),
    ] = None,
    mlcube_file: Annotated[
        str | None,
        typer.Option(
            "--mlcube-file", "-m", metavar="URL|PATH", help="The manifest. A local file is uploaded to the server."
        ),
    ] = None,
    mlcube_hash: Annotated[
        str | None, typer.Option("--mlcube-hash", metavar="SHA256", help="The manifest's digest, to be checked.")
    ] = None,
    parameters_file: Annotated[
        str | None, typer.Option("--parameters-file", "-p", metavar="URL|PATH", help="The parameters file.")
    ] = None,
    parameters_hash: Annotated[
        str | None, typer.Option("--parameters-hash", metavar="SHA256", help="Its digest, to be checked.")
    ] = None,
    additional_file: Annotated[
        str | None, typer.Option("--additional-file", "-a", metavar="URL|PATH", help="The tarball of additional files.")
    ] = None,
    additional_hash: Annotated[
        str | None, typer.Option("--additional-hash", metavar="SHA256", help="Its digest, to be checked.")
    ] = None,
    image_file: Annotated[
        str | None, typer.Option("--image-file", "-i", metavar="URL|PATH", help="The image's archive or .sif file.")
    ] = None,
    image_hash: Annotated[
        str | None, typer.Option("--image-hash", metavar="SHA256", help="The image's digest.")
    ] = None,
    project_file: Annotated[
        str | None,
        typer.Option(
            "--project-file",
            metavar="URL|PATH",
            help="project.tar.gz of a python: section; looked for beside the manifest.",
        ),
    ] = None,
    project_hash: Annotated[
        str | None, typer.Option("--project-hash", metavar="SHA256", help="Its digest, to be checked.")
    ] = None,
    from_folder: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Instead of the files: the MLCube's folder, packaged first."),
    ] = None,
    owner: OwnerOption = None,
) -> None:
    """Register an MLCube from its files, or from its folder."""
    from medperf.flows.folders import submit_mlcube_from_folder
    from medperf.flows.mlcubes import MLCubeSubmission, submit_mlcube

    session = session_of(ctx)
    if from_folder is not None:
        single = {
            "--mlcube-file": mlcube_file,
            "--mlcube-hash": mlcube_hash,
            "--parameters-file": parameters_file,
            "--parameters-hash": parameters_hash,
            "--additional-file": additional_file,
            "--additional-hash": additional_hash,
            "--image-file": image_file,
            "--image-hash": image_hash,
            "--project-file": project_file,
            "--project-hash": project_hash,
        }
        _refuse([option for option, value in single.items() if value is not None], "cannot be given with --from")
        with session.site() as site:
            _submitted(session, submit_mlcube_from_folder(site, from_folder, name=name, owner=owner))
        return
    needed = {"--name": name, "--mlcube-file": mlcube_file}
    _refuse([option for option, value in needed.items() if value is None], "must be given (or --from FOLDER)")
    submission = MLCubeSubmission(
        name=str(name),
        manifest=str(mlcube_file),
        parameters=parameters_file,
        additional=additional_file,
        image=image_file,
        project=project_file,
        manifest_hash=mlcube_hash,
        parameters_hash=parameters_hash,
        additional_hash=additional_hash,
        image_hash=image_hash,
        project_hash=project_hash,
        owner=owner,
    )
    with session.site() as site:
        _submitted(session, submit_mlcube(site, submission))


def _submitted(session: Session, made: MLCubeView) -> None:
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.created("mlcube", made.id, made.name, then=session.next("mlcube", "view", str(made.id)))
    if made.kind is Kind.MODEL:
        words = ("mlcube", "associate", "-b", "BENCHMARK", "-m", str(made.id))
        session.out.line(f"To join a benchmark: {session.next(*words)}")


def _refuse(options: list[str], why: str) -> None:
    if options:
        raise UsageError("usage", f"{', '.join(options)} {why}.", "See: medperf mlcube submit --help")


@example(app, "ls", "medperf mlcube ls", "medperf mlcube ls --mine --kind model")
def ls(
    ctx: typer.Context,
    mine: MineOption = False,
    owner: OwnedByOption = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only of this kind.")] = None,
    state: StateOption = None,
    name: NameOption = None,
    valid: ValidOption = None,
    search: SearchOption = None,
    sort: SortOption = None,
    limit: LimitOption = None,
) -> None:
    """List the MLCubes you may see."""
    from medperf.flows.mlcubes import list_mlcubes

    session = session_of(ctx)
    with session.site() as site:
        found = list_mlcubes(
            site,
            mine=mine,
            owner=owner,
            kind=kind,
            state=state,
            is_valid=valid,
            name=name,
            search=search,
            sort=sort,
            limit=limit,
        )
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("name"),
            Column("kind"),
            Column("state"),
            Column("valid", extra=True),
            Column("owner"),
            Column("created", extra=True),
        ],
        lambda cube: (cube.id, cube.name, cube.kind, cube.state, cube.is_valid, cube.owner.name, cube.created_at),
        empty="No MLCubes found. Register one with: medperf mlcube submit --help",
        without=("manifest_text",),
    )


@example(app, "view", "medperf mlcube view 1", "medperf mlcube view 1 --output cube.yaml")
def view(
    ctx: typer.Context,
    mlcube: Annotated[int, typer.Argument(metavar="ID", help="The MLCube's id.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to this file.")
    ] = None,
) -> None:
    """Show an MLCube with its files, digests and manifest."""
    from medperf.flows.mlcubes import view_mlcube

    session = session_of(ctx)
    with session.site() as site:
        found = view_mlcube(site, mlcube)
    if output is None:
        session.out.show(found)
        return
    session.out.save(found, output)


@example(app, "associate", "medperf mlcube associate -b 1 -m 4", "medperf mlcube associate -b 1 --from my_model")
def associate(
    ctx: typer.Context,
    benchmark: Annotated[int, typer.Option("--benchmark", "-b", metavar="ID", help="The benchmark to join.")],
    model: Annotated[
        int | None, typer.Option("--model", "--model_uid", "-m", metavar="ID", help="Your model MLCube.")
    ] = None,
    from_folder: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Instead of an id: its folder, registered once it passed."),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option("--report", metavar="ID", help="Send the report of this test instead of running the test."),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step of the test again, even if nothing changed.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Test your model with a benchmark's demo data, show the metrics, and ask its owner to take the model."""
    from medperf.cli.association_text import show_asked
    from medperf.flows.folders import associate_model_from_folder
    from medperf.flows.joining import associate_model

    session = session_of(ctx)
    if (model is None) is (from_folder is None) or None not in (from_folder, report):
        raise UsageError(
            "usage", "Give either --model, or --from without --report.", "See: medperf mlcube associate --help"
        )
    with session.site(stops_gently=True) as site:
        if from_folder is not None:
            done = associate_model_from_folder(site, benchmark, from_folder, no_cache=no_cache, yes=yes)
        else:
            done = associate_model(site, benchmark, int(str(model)), report=report, no_cache=no_cache, yes=yes)
    show_asked(session, done, shown=not yes)


@example(app, "package", "medperf mlcube package medperf_tutorial/chexpert_prep/mlcube")
def package(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder that holds mlcube.yaml.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.tar.gz", help="Also write all files as one archive.")
    ] = None,
) -> None:
    """Write the files to host into the folder deploy beside the manifest, and show their digests."""
    from medperf.flows.packaging import package_mlcube

    session = session_of(ctx)
    made = package_mlcube(folder, home=session.home, output=output)
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.table(
        [Column("file"), Column("path"), Column("bytes", right=True), Column("digest", short=True)],
        [(name, session.shown(file.path), file.size, file.digest) for name, file in made.files.items()],
        empty="Nothing was packaged.",
    )
    if made.output is not None:
        session.out.wrote(session.shown(made.output))
    if made.unknown:
        session.out.line(f"Read over in the manifest, for they are unknown: {', '.join(made.unknown)}")
    words = [
        word
        for name, file in made.files.items()
        if name != "project"  # found beside the manifest
        for word in (_OPTIONS[name], str(session.shown(file.path)))
    ]
    session.out.line(f"Next: {session.next('mlcube', 'submit', '--name', made.name, *words)}")


@example(app, "create", "medperf mlcube create model --name my-model")
def create(
    ctx: typer.Context,
    template: Annotated[
        str, typer.Argument(metavar="TEMPLATE", help="data_preparator, model or evaluator.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The folder to make; the template's name when missing.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to make it.", show_default=False)
    ] = Path(),
) -> None:
    """Make a new MLCube to start from; it can be packaged and tested at once."""
    from medperf.flows.templates import create_mlcube

    session = session_of(ctx)
    folder = create_mlcube(template, name=name or template, output=output)
    if session.out.as_json:
        session.out.json({"folder": folder})
        return
    session.out.line(f"Created {template} in {session.shown(folder)}.")
    session.out.line(f"Edit: {session.shown(folder / 'project' / 'mlcube.py')}")
    session.out.line("Next: medperf test run --help")
    session.out.line(f"Then: {session.command('mlcube', 'package', str(session.shown(folder / 'mlcube')))}")


add_mlcube_editing(app)

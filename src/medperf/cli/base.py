"""What every noun and command shares: the global options, plain help and examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from medperf.cli.session import Format, Session

Function = TypeVar("Function", bound=Callable[..., Any])

_WHOLE_LINE = 400  # of a command's help, which is wrapped rather than cut

__all__ = ["Session", "example", "noun", "session_of"]


def session_of(context: typer.Context) -> Session:
    """The session a command runs in."""
    session = context.obj
    assert isinstance(session, Session)
    return session


def noun(name: str, text: str, *examples: str) -> typer.Typer:
    """An empty noun: ``medperf NAME``."""
    app = typer.Typer(
        name=name,
        cls=_Group,
        help=text,
        epilog=_epilog(examples),
        no_args_is_help=True,
        add_completion=False,
        add_help_option=False,
        rich_markup_mode=None,  # plain text, on a terminal too: a quarter of the start-up time, and no boxes
        pretty_exceptions_enable=False,
    )
    app.callback(add_help_option=False)(_nothing)
    return app


def example(app: typer.Typer, name: str, *lines: str) -> Callable[[Function], Function]:
    """Register a command with the examples that end its help."""
    return app.command(name, cls=_Command, epilog=_epilog(lines), add_help_option=False)


def _epilog(lines: Sequence[str]) -> str:
    return "\b\nExample:\n" + "\n".join("  " + line for line in lines)


def _nothing() -> None:
    return


def _keep(name: str) -> Callable[..., Any]:
    def keep(ctx: typer.Context, value: Any) -> Any:
        if value and isinstance(ctx.obj, Session):
            setattr(ctx.obj, name, value)
        return value

    return keep


def _template(
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="NAME",
            callback=_keep("profile"),
            expose_value=False,
            help="Use this profile instead of the active one.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            callback=_keep("server"),
            expose_value=False,
            help="Talk to this server instead of the profile's.",
        ),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(
            "--certificate",
            metavar="PATH",
            callback=_keep("certificate"),
            expose_value=False,
            help="Trust this certificate of the server.",
        ),
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="text|json",
            callback=_keep("format"),
            expose_value=False,
            help="How answers are printed.",
        ),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", callback=_keep("verbose"), expose_value=False, help="Say more.")
    ] = False,
    show_help: Annotated[
        bool,
        typer.Option("--help", "-h", expose_value=False, help="Show this text and exit."),
    ] = False,
) -> None:
    """Never called: only its options are taken."""


@cache
def _global_options() -> tuple[Any, ...]:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(add_help_option=False)(_template)
    return tuple(typer.main.get_command(app).params)


class _Command(TyperCommand):
    """Adds the global options that a command does not declare itself, and lists them apart."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        _add_global_options(self)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments, options, then the options of every command."""
        _format_options(self, ctx, formatter)


class _Group(TyperGroup):
    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        _add_global_options(self)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Commands, then the options of every command."""
        rows = [(name, command.get_short_help_str(_WHOLE_LINE)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        _format_options(self, ctx, formatter)


def _add_global_options(command: Any) -> None:
    taken = {option for parameter in command.params for option in parameter.opts}
    command.params = [*command.params, *(option for option in _global_options() if not taken.intersection(option.opts))]


def _format_options(command: Any, ctx: Any, formatter: Any) -> None:
    shared = _global_options()
    sections: dict[str, list[Any]] = {"Arguments": [], "Options": [], "Options of every command": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        title = "Options of every command" if parameter in shared else f"{parameter.param_type_name.title()}s"
        if record is not None:
            sections[title].append(record)
    for title, records in sections.items():
        if records:
            with formatter.section(title):
                formatter.write_dl(records)

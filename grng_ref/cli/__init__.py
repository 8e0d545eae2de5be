"""The command ``grng-ref``: one file a sub-command, each with ``register(app)``.

Its packages come with the extra ``verify`` and are imported when it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grng_ref.environment import require_extra

from . import check, info, study, train, vectors

if TYPE_CHECKING:
    import typer

COMMANDS = (info, train, study, vectors, check)


def main() -> None:
    """Run the command ``grng-ref``; exit status 0 as expected, 1 something is not, 2 wrong use."""
    require_extra("grng-ref", extra="verify", modules=("typer", "rich"))
    build_app()()


def build_app() -> typer.Typer:
    """The command line application, with every sub-command of `COMMANDS`."""
    import typer

    app = typer.Typer(
        help="Tools around gradient-regularized natural gradients and their reference implementation.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )

    @app.callback()
    def _keep_subcommands() -> None:
        """Without a callback, typer would turn an application's only sub-command into the application."""

    for command in COMMANDS:
        command.register(app)
    return app

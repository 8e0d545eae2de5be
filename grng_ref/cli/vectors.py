"""``grng-ref vectors export | verify``: test vectors as files, with certified error radii."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from grng_ref.arrays import NumericalError
from grng_ref.environment import require_extra

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add ``grng-ref vectors`` to the application."""
    import typer

    group = typer.Typer(
        help="Test vectors: write fresh ones, or prove those of a directory again.", no_args_is_help=True
    )

    @group.command()
    def export(
        directory: str = typer.Argument(help="A new directory."),
        seed: int = typer.Option(
            6, min=0, help="Of the inputs; 6 gives the set that comes with the package."
        ),
        cases: str = typer.Option("", help="Ids, separated by commas; all unless given."),
    ) -> None:
        """Write test vectors with their certified error radii to a new directory."""
        _require()
        raise SystemExit(export_vectors(Path(directory), seed, tuple(filter(None, cases.split(",")))))

    @group.command()
    def verify(
        directory: str = typer.Argument("", help="By default the set that comes with the package."),
    ) -> None:
        """Read every file, and prove every radius again; exit status 1 where that fails."""
        _require()
        raise SystemExit(verify_vectors(Path(directory) if directory else None))

    app.add_typer(group, name="vectors")


def _require() -> None:
    require_extra("grng-ref vectors", extra="verify,vectors", modules=("flint", "safetensors", "jsonschema"))


def export_vectors(directory: Path, seed: int, ids: tuple[str, ...]) -> int:
    """Build, certify and write; the exit status."""
    from grng_ref.testing.vectors import build_cases, certify, save_cases

    try:
        made = [certify(case) for case in build_cases(seed=seed, ids=ids or None)]
        save_cases(directory, made, seed=seed)
    except NumericalError as error:  # of a seed that makes a case singular
        print(f"grng-ref vectors export: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"grng-ref vectors export: {error}", file=sys.stderr)
        return 2
    radii = [radius for case in made for radius in case.radii.values()]
    known = sum(radius is not None for radius in radii)
    print(f"{len(made)} cases in {directory}: {known} of {len(radii)} arrays with a certified radius")
    return 0


def verify_vectors(directory: Path | None) -> int:
    """Read and re-certify; the exit status."""
    from grng_ref.testing.vectors import load_cases, uncertified
    from grng_ref.testing.vectors.sound import require_complete

    try:
        cases = load_cases(directory)
    except OSError as error:
        print(f"grng-ref vectors verify: {error}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"grng-ref vectors verify: {error}", file=sys.stderr)
        return 1
    failed = []
    for case in cases:
        try:
            require_complete(case)
            failed += [(case.id, name) for name in uncertified(case)]
        except (ValueError, TypeError, NumericalError) as error:
            print(f"grng-ref vectors verify: case {case.id}: {error}", file=sys.stderr)
            return 1
    for case_id, name in failed:
        print(f"{case_id}: {name} is not proved to be within its radius, or has none and could have one")
    radii = [radius for case in cases for radius in case.radii.values()]
    known = sum(radius is not None for radius in radii)
    print(f"{len(cases)} cases, {known} of {len(radii)} arrays with a radius, {len(failed)} not proved again")
    return 1 if failed else 0

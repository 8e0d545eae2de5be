"""The command ``proofs-check``, also ``python -m proofs_check``."""

from __future__ import annotations

from grng_ref.environment import require_extra


def main() -> None:
    """Run the command line; exit status 0 all as expected, 1 something is not, 2 wrong use."""
    require_extra("proofs-check", extra="verify", modules=("typer", "rich", "joblib"))
    from .cli import app  # the command line's libraries are not needed to import proofs_check

    app(prog_name="proofs-check")


if __name__ == "__main__":
    main()

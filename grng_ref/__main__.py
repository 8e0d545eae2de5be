"""``python -m grng_ref`` is the command ``grng-ref``."""

from __future__ import annotations

from grng_ref.cli import main

if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# Makes the two environments that the tests marked `peers` run in: FOLDER/jax and FOLDER/torch.
# An environment whose requirements have not changed keeps its packages; the project is installed anew each time.
#
#   bash tests/peers/install.sh [FOLDER]      FOLDER: default .peers in the root of the repository
#
# PYTHON: the interpreter (default python3).
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
folder="${1:-$root/.peers}"
python="${PYTHON:-python3}"
export PIP_DISABLE_PIP_VERSION_CHECK=1

requirements() {
    "$python" - "$root/pyproject.toml" <<'PYTHON'
import pathlib, sys, tomllib
project = tomllib.loads(pathlib.Path(sys.argv[1]).read_text())["project"]
print(project["dependencies"], project["optional-dependencies"])
PYTHON
}

for framework in jax torch; do
    pins="$here/requirements-$framework.txt"
    env="$folder/$framework"
    # What the packages depend on: the pins, the project's own requirements, this script, the interpreter.
    wanted="$(cat "$pins" "${BASH_SOURCE[0]}" <("$python" -VV) <(requirements) | sha256sum | cut -d' ' -f1)"
    if [ "$(cat "$env/stamp" 2>/dev/null || true)" != "$wanted" ]; then
        echo "installing the peers' environment $env"
        rm -rf "$env"
        mkdir -p "$folder"
        "$python" -m venv "$env"
        if [ "$framework" = torch ]; then
            "$env/bin/python" -m pip install --quiet --no-compile "$(grep '^torch==' "$pins")"
        fi
        "$env/bin/python" -m pip install --quiet --no-compile --no-deps --requirement "$pins"
        # The tests' own packages; the pins hold as constraints, so that none of them moves.
        "$env/bin/python" -m pip install --quiet --no-compile --constraint "$pins" "$root[test]"
        echo "$wanted" >"$env/stamp"
    else
        echo "the peers' environment $env is up to date"
    fi
    "$env/bin/python" -m pip install --quiet --no-compile --no-deps --force-reinstall "$root"
done

PYTHONPATH="$root/tests" "$folder/jax/bin/python" -c \
    "import support; support.prepare_jax(); import kfac_jax, dynamax.nonlinear_gaussian_ssm, pykalman"
"$folder/torch/bin/python" -c "import torch, curvlinops, backpack, nngeometry"

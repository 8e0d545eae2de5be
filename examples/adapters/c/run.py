"""Run the C program on every test vector that it covers; the standard library only.

From this directory::

    grng-ref vectors export vectors
    cc -O2 -o mlp mlp.c -lm
    python run.py ./mlp vectors results
    grng-ref check --results results --vectors vectors
"""

import json
import subprocess
import sys
from pathlib import Path


def covered(case):
    """Tanh networks with Gaussian or categorical outputs, with biases, unscaled, nothing frozen."""
    network = case["network"]
    return (
        network["activation"] == "tanh"
        and network["bias"]
        and network["parameterization"] == "standard"
        and network["scales"] is None
        and not network["frozen"]
        and case["likelihood"]["name"] in ("gaussian", "categorical")
    )


def main(program, vectors, results):
    """One result file a case; the number of cases."""
    manifest = json.loads((Path(vectors) / "manifest.json").read_text(encoding="utf-8"))
    Path(results).mkdir(parents=True, exist_ok=True)
    cases = [case for case in manifest["cases"] if covered(case)]
    for case in cases:
        likelihood = case["likelihood"]
        settings = [
            likelihood["name"],
            str(likelihood.get("variance", 1.0)),
            *map(str, case["network"]["sizes"]),
        ]
        result = Path(results) / f"{case['id']}.safetensors"
        subprocess.run([program, Path(vectors) / case["file"], result, *settings], check=True)
    return len(cases)


if __name__ == "__main__":
    print(main(*sys.argv[1:]), "cases")

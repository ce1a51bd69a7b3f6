"""Write Brain-Score's own numbers in double precision, for the tests.

Run in an environment of its own, because brainscore-vision pins NumPy below 2:

    uv venv -p 3.11 ENV && uv pip install -p ENV brainscore-vision
    ENV/bin/python benchmarks/brainscore_reference.py brain_alignment.npz OUT.npz

The input holds `features`, `responses` (images × neuroids × repetitions), `object_name` and
`stimulus_id` in single precision; here everything is cast to double before any computation.
"""

from __future__ import annotations

import sys

import numpy as np
from brainscore_core.supported_data_standards.brainio.assemblies import NeuroidAssembly
from brainscore_vision import load_ceiling, load_metric


def assembly(values, data, repetitions=None):
    """Pack an array as Brain-Score's assembly; repetitions come repetition-major."""
    n, width = values.shape[:2]
    names, objects = data["stimulus_id"], data["object_name"]
    coords = {
        "neuroid_id": ("neuroid", np.arange(width)),
        "region": ("neuroid", ["IT"] * width),
    }
    if repetitions:
        values = values.transpose(2, 0, 1).reshape(repetitions * n, width)
        coords["repetition"] = ("presentation", np.repeat(np.arange(repetitions), n))
        names, objects = np.tile(names, repetitions), np.tile(objects, repetitions)
    coords["stimulus_id"] = ("presentation", names)
    coords["object_name"] = ("presentation", objects)
    return NeuroidAssembly(values, coords=coords, dims=["presentation", "neuroid"])


def main(source: str, target: str) -> None:
    """Compute every metric and write it."""
    data = np.load(source)
    responses = data["responses"].astype(np.float64)
    features = assembly(data["features"].astype(np.float64), data)
    mean = assembly(responses.mean(axis=2), data)
    found = {}

    def keep(name, score):
        found[f"{name}/score"] = float(score)
        if "raw" in score.attrs:
            found[f"{name}/raw"] = np.asarray(score.attrs["raw"].values, dtype=np.float64)
        if "error" in score.attrs:
            found[f"{name}/error"] = float(score.attrs["error"])

    for name in ("pls", "ridge", "linear_predictivity", "neuron_to_neuron"):
        keep(name, load_metric(name)(features, mean))
    keep(
        "internal_consistency",
        load_ceiling("internal_consistency")(assembly(responses, data, responses.shape[2])),
    )
    for name in ("rdm", "cka", "rdm_cv", "cka_cv"):
        keep(name, load_metric(name)(features, mean))
    np.savez_compressed(target, **found)
    for name, value in sorted(found.items()):
        print(name, getattr(value, "shape", value))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The example policy's checks of these kinds: all of their keys are accepted, and a good model passes them from files."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from analyzer.gate.checks import kinds
from analyzer.gate.policy import parse_policy
from analyzer.gate.run import run_gate

CHECKS = """
[[check]]
id = "parity.ort";        kind = "output_parity"; rtol = 1e-4; atol = 1e-5; stat = "max"; layerwise = true
[[check]]
id = "determinism"; kind = "determinism"; repeats = 3; vary = ["threads","batch"]; atol = 1e-6; explanation_spearman = 0.9999
[[check]]
id = "finite";            kind = "finite"; where = ["weights","activations","relevance"]
[[check]]
id = "conservation";      kind = "conservation"; max_rel_error = 0.05; max_abs_over_output = 10.0; mostly = 0.6
[[check]]
id = "continuity"; kind = "continuity"; noise = "uniform"; radius_px = 2; samples = 10; stat = "p95"; max = 1.0
skip_if_class_changes = true; max_skipped = 0.2
[[check]]
id = "faithfulness"; kind = "pixel_flipping"; steps = 4; baseline = ["blur","mean"]; versus = ["random","sobel"]
min_margin = 0.05; test = "paired_bootstrap"; mostly = 0.5
[[check]]
id = "randomisation"; kind = "mprt"; variant = "efficient"; order = "bottom_up"; max_spearman = 0.5; min_entropy_rise = 0.0
[[check]]
id = "class_sensitivity"; kind = "random_logit"; max_similarity = 0.9
""".replace("; ", "\n")


def test_a_good_model_passes_from_files(tmp_path: Path, sample_models: Path) -> None:
    from PIL import Image

    from models.shapes import scenes

    for at, image in enumerate(scenes.dataset(8, 21)[0]):
        Image.fromarray(image).save(tmp_path / f"{at:02d}.png")
    given = tomllib.loads(CHECKS)
    quick = {"continuity": {"stat": "median", "samples": 2}, "determinism": {"repeats": 2}, "mprt": {"draws": 1}}
    for check in given["check"]:
        check |= quick.get(check["kind"], {})
    given |= {
        "schema": 1, "model": {"path": str(sample_models / "shapes_cnn.onnx")}, "data": {"path": "."}, "policy": {"min_n": 8},
        "explain": {"method": "lrp", "preset": "epsilon-gamma-box", "target": "predicted", "output": "logit"},
    }  # fmt: skip
    result = run_gate(given, folder=tmp_path, threads=1)
    assert [check.status for check in result.checks] == ["pass"] * 8, [check.message for check in result.checks]
    assert result.exit_code == 0
    assert all(np.isfinite(next(iter(check.outcome.values.values()))).all() for check in result.checks)


@pytest.mark.parametrize("kind", [check["kind"] for check in tomllib.loads(CHECKS)["check"]])
def test_a_check_says_what_it_is(kind: str) -> None:
    check = kinds()[kind]
    assert check.__doc__ and check.__doc__.split("\n")[0].endswith(".") and check.source
    assert all(field.description for name, field in check.model_fields.items() if name != "kind")
    parse_policy({"schema": 1, "model": {"path": "m"}, "data": {"path": "d"}, "check": [{"id": "x", "kind": kind}]})

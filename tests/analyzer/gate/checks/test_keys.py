"""Every key of a full policy is accepted with a full policy's values."""

from __future__ import annotations

import tomllib
from typing import Any

from analyzer.gate.checks import kinds
from analyzer.gate.policy import parse_policy

CHECKS = """
[[check]]
id = "no_watermark";      kind = "forbidden_region"; masks = "watermark/"; relevance = "positive"; max_mass_over_area = 3.0; control = "mirrored_region"; intervention = "inpaint"; max_prob_change = 0.05; require = "both"
[[check]]
id = "on_object";         kind = "region_mass"; masks = "object/"; min_mass_over_area = 1.5; per_class = true; min_n_per_class = 30
[[check]]
id = "drift.quant";       kind = "explanation_drift"; against = "reference"; spearman_median = 0.8; topk_overlap_p10 = 0.5; k = 0.1; ndcg_min = 0.9; per_class = true
[[check]]
id = "drift.tensors";     kind = "tensor_sqnr"; against = "reference"; min_db = 20
[[check]]
id = "snapshot";          kind = "snapshot"; baseline = "baselines/model.json"; max_absolute_change = 0.05; max_relative_change = 0.1
[[check]]
id = "coverage";          kind = "op_coverage"; min_supported = 1.0; allow_fallback = ["gradient"]
[[check]]
id = "latency";           kind = "latency"; metric = "explain_p95_ms"; max = 500; warmup = 3; level = "warn"
[[check]]
id = "explanation_choice"; kind = "compare_presets"; grid = {gamma=[0,0.1,0.25,0.5,1]}; objective = "pixel_flipping"; held_out = 0.5; level = "warn"
[[check]]
id = "hans";              kind = "clever_hans"
"""  # noqa: E501


def test_a_full_policy_is_accepted_and_every_default_is_its_value() -> None:
    checks = tomllib.loads(CHECKS.replace(";", "\n"))["check"]
    policy = parse_policy(
        {
            "schema": 1, "model": {"path": "model.onnx"}, "reference": {"path": "before.onnx"}, "data": {"path": "val/"},
            "check": checks,
        }
    )  # fmt: skip
    for given, check in zip(checks, policy.check, strict=True):
        for key, value in given.items():
            assert getattr(check, key) == value
        required: dict[str, Any] = {"id": "x", "max": 1, "baseline": "b.json", "grid": {"gamma": [1]}}
        known = kinds()[given["kind"]].model_fields
        check_kind = kinds()[given["kind"]]
        assert check_kind.__doc__
        assert check_kind.__doc__.split("\n")[0].endswith(".")
        assert check_kind.source
        assert all(field.description for name, field in known.items() if name != "kind")
        bare = kinds()[given["kind"]](**{key: value for key, value in required.items() if key in known})
        for key in set(given) - {"id", "level", "masks", "allow_fallback", *required}:
            assert getattr(bare, key) == given[key]

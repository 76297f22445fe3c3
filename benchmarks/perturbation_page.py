"""The page of ``benchmarks.perturbation``: tables from what was measured.

Belongs here: Markdown. Not here: measuring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: What an explanation may cost over bare runs, cold start in seconds, memory above the bare session in MiB.
OVERHEAD, COLD, MEMORY = 0.15, 0.6, 512
#: Below this, errors are rounding.
ROUNDING = 1e-5


def page(found: Mapping[str, Any], wanted: Mapping[str, Mapping[str, float]]) -> str:
    """The whole page."""
    networks = found["networks"]
    parts = [
        _head(found), _over(networks), _incremental(networks), _beside(networks, wanted), _memory(networks),
        _cold(found["cold_start"]), _shapley(found["shapley"]),
    ]  # fmt: skip
    return "\n".join(part for part in parts if part)


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _missed(missed: bool) -> str:
    return " (missed)" if missed else ""


def _head(found: Mapping[str, Any]) -> str:
    place = found["environment"]
    sides = [
        f"{label}: {', '.join(f'{name} {version}' for name, version in place[side].items())}"
        for side, label in (("ours", "onnxplain's environment"), ("peers", "peers' environment"))
        if side in place
    ]
    counts = ", ".join(f"{name} {each['evaluations']}" for name, each in found["networks"].items())
    return (
        "Perturbation methods: shapes of well-known networks with random weights and the SqueezeNet 1.0 of the model zoo, "
        f"224 × 224, process CPU time, one thread on all sides, {found['rounds']} rounds in turns, medians.\n\n"
        f"{place['processor']}, {place['cores']} cores, {place['system']}\\\n" + "\\\n".join(sides) + "\n\n"
        f"Evaluations of a call: {counts}; occlusion has 225 windows (VGG-16: 49), feature ablation "
        "100 segments. VGG-16 has one round.\n"
    )


def _over(networks: Mapping[str, Any]) -> str:
    methods = list(dict.fromkeys(name for each in networks.values() for name in each["overhead"]["over"]))
    rows = []
    for name, each in networks.items():
        over, bare = each["overhead"]["over"], each["overhead"]["bare"]
        cells = [f"{over[m]:+.0%}{_missed(over[m] > OVERHEAD)}" if m in over else "–" for m in methods]
        rows.append([name, f"{1000 * bare['each']:.1f} ms at {bare['batch']}", *cells])
    return (
        f"## Over bare onnxruntime\n\nPer evaluation, beside bare runs at the batch that costs least; wanted: "
        f"at most {OVERHEAD:.0%}. Below zero: incremental occlusion computes less than whole runs. "
        "Of a model above 192 MiB (VGG-16) one session is kept: methods that take turns make it anew for each call, which is "
        "part of the figure and weighs much among few evaluations.\n\n" + table(["network", "bare run", *methods], rows)
    )


def _incremental(networks: Mapping[str, Any]) -> str:
    said = [f"{name}: {each['overhead']['incremental']}" for name, each in networks.items()]
    plain = "; ".join(said).replace("{", "").replace("}", "").replace("'", "")
    return f"Incremental occlusion: {plain}.\n"


def _beside(networks: Mapping[str, Any], wanted: Mapping[str, Mapping[str, float]]) -> str:
    rows = []
    for name, each in networks.items():
        for peer, got in each.get("beside", {}).items():
            least = wanted[peer].get(name)
            if "error" in got:
                rows.append([name, peer, "–", "–", "–", got["error"]])
                continue
            missed = least is not None and got["times"] < least
            rows.append(
                [name, peer, got["beside"], f"{got['theirs']:.2f} s", f"{got['ours']:.2f} s",
                 f"{got['times']:.2f} ({got['least']:.2f} … {got['most']:.2f})",
                 (f"{least:.1f}" if least else "–") + _missed(missed)]
            )  # fmt: skip
    if not rows:
        return ""
    return (
        "## Beside peers\n\nBoth begin with the model's file; per evaluation. DIANNA's KernelSHAP explains a model cut to "
        "one class and the fill of its map is left out (about a second for every class of a model); LIME on all sides has the "
        "same segments; captum runs the torch module at the number of windows at once that costs least.\n\n"
        + table(["network", "peer", "ours", "peer's time", "our time", "times as costly", "wanted"], rows)
    )


def _memory(networks: Mapping[str, Any]) -> str:
    cases = list(dict.fromkeys(name for each in networks.values() for name in each["memory"]["above"]))
    rows = []
    for name, each in networks.items():
        above = each["memory"]["above"]
        ours = set(each["overhead"]["over"])
        cells = [
            f"{above[case]:+.0f}{_missed(case in ours and above[case] > MEMORY)}" if case in above else "–"
            for case in cases
        ]
        rows.append([name, f"{each['memory']['bare']:.0f}", *cells])
    return (
        "## Peak memory\n\nPeak resident MiB of a process with the bare session at its best batch, and how much more a process "
        f"takes for one explanation, imports included; wanted: at most {MEMORY} more.\n\n"
        + table(["network", "bare", *cases], rows)
    )


def _cold(cold: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{got['seconds']:.2f} s{_missed(got['seconds'] > COLD)}", ", ".join(got["imported"]) or "none"]
        for name, got in cold.items()
    ]
    return (
        "## Cold start\n\n`onnxplain explain MODEL PICTURE -m METHOD` with the MobileNetV2-shaped model, one thread: user and "
        f"system time of the whole process up to the first score; wanted: at most {COLD} s. By default LIME and kernel SHAP cut "
        "a picture with scikit-image's SLIC, whose import is the difference to a grid.\n\n"
        + table(["run", "processor time", "torch, scikit-learn, scikit-image, SciPy, matplotlib imported"], rows)
    )


def _shapley(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    labels = list(rows[0]["error"]) if rows else []
    body, won = [], 0
    for row in rows:
        errors = row["error"]
        best = min((value for label, value in errors.items() if label != "ours"), default=float("inf"))
        exact = errors["ours"] < ROUNDING and best < ROUNDING
        won += errors["ours"] < best or exact
        body.append([row["model"], row["samples"], *(f"{errors[label]:.2g}" for label in labels),
                     "both exact" if exact else "ours" if errors["ours"] < best else "shap"])  # fmt: skip
    return (
        "## Kernel SHAP beside the shap package\n\nRelative error against exact Shapley values (all coalitions run), mean of ten "
        "seeds, at equal evaluations.\n\n"
        + table(["model", "samples", *labels, "lower"], body)
        + f"\nOurs is as near or nearer in {won} of {len(rows)} rows.\n"
    )

"""A detection target on a model: what was detected, and the class score that white-box methods explain instead.

Belongs here: applying a decode spec to a model and its inputs. Not here: what a spec means (``proposals``), the similarity
(``target``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.importer.loading import tensor_to_numpy
from analyzer.inputs.decode import CODE, Decode
from analyzer.targets.detection.proposals import Decoder, Proposals
from analyzer.targets.detection.recognition import classes_named, recognised
from analyzer.targets.detection.target import DetectionTarget, named, resolve_detections
from analyzer.targets.scores import Scored
from analyzer.targets.target import Resolved

if TYPE_CHECKING:
    from analyzer.onnx_model import OnnxModel

Array = NDArray[Any]
_LISTED = 5


@dataclass(frozen=True)
class Found:
    """A detector's proposals for a batch, and the detections that are explained.

    Attributes
    ----------
    resolved
        The target.
    proposals
        Those of each sample.
    got
        The outputs that they were decoded from.
    """

    model: OnnxModel
    resolved: DetectionTarget
    proposals: list[Proposals]
    got: Mapping[str, Array]

    @property
    def scored(self) -> Scored:
        """The similarity as a score; its name is that of the output with the boxes."""
        name = self.resolved.decoder.boxes[0]
        return Scored(name, name, "value")

    def prediction(self) -> dict[str, Any]:
        """The best detections of every sample in the record's form of a prediction."""
        labels, top = self.model.labels, []
        for each in self.proposals:
            best = each.take(each.detections()[:_LISTED])
            pairs = zip(best.classes, best.scores, strict=True)
            top.append([[int(c), f"{k}: {named(int(c), labels)}", float(s)] for k, (c, s) in enumerate(pairs)])
        return {"kind": "probability", "top": top}

    def record(self) -> dict[str, Any]:
        """The record's entries about the explained detections; boxes in pixels of the model's input."""
        labels = self.model.labels
        records = [
            {
                "box": [float(v) for v in detection.box],
                "class": detection.number,
                "label": labels.name(detection.number) if labels is not None and detection.number >= 0 else None,
                "score": detection.score,
                "similarity": float(before),
            }
            for detection, before in zip(self.resolved.detections, self.resolved.before, strict=True)
        ]
        return {"detection": records, "decode": self.resolved.decoder.spec.to_dict()}

    def class_scores(self) -> tuple[str, Resolved]:
        """The class scores of the detections' proposals: the name of their output, and weights on it.

        Raises
        ------
        UsageError
            ``target.detection`` where there is no such score, or where they lie in different outputs.
        """
        outputs = self._elements()
        offsets = {name: start for name, start, _ in outputs}
        indices = {name: (start + np.arange(value.size)).reshape(value.shape) for name, start, value in outputs}
        sources = self.resolved.decoder({**self.got, **indices})
        class_elements = []
        for detection, proposals, source in zip(self.resolved.detections, self.proposals, sources, strict=True):
            if proposals.spec.ready or detection.row < 0:
                raise _no_gradient("the model's own suppression" if proposals.spec.ready else "no proposal there")
            values = source.raw_classes
            if values is None:
                assert source.raw_objectness is not None
                class_elements.append(int(source.raw_objectness[detection.row]))
            else:
                best = detection.number if detection.number >= 0 else int(proposals.foreground[detection.row].argmax())
                class_elements.append(int(values[detection.row, best]))
        owners = [max((n for n in offsets if offsets[n] <= flat), key=lambda n: offsets[n]) for flat in class_elements]
        if len(set(owners)) > 1:
            raise UsageError(
                "target.detection", "the samples' detections lie in different outputs", "explain one picture at a time"
            )
        name = owners[0]
        weights = np.zeros(np.shape(self.got[name]))
        notes = []
        for flat in class_elements:
            index = np.unravel_index(flat - offsets[name], weights.shape)
            weights[index] = 1.0
            notes.append(
                f"the class score of the detection's proposal is explained, {name}[{','.join(str(int(i)) for i in index)}]"
            )
        resolved = self.resolved
        return name, Resolved(
            weights, resolved.names, resolved.classes, tuple(dict.fromkeys((*resolved.notes, *notes)))
        )

    def _elements(self) -> list[tuple[str, int, Array]]:
        """The outputs with boxes and class scores, each with the number of elements before it."""
        decoder, start, found = self.resolved.decoder, 0, []
        for name in dict.fromkeys((*decoder.boxes, *(decoder.spec.scores or ()))):
            value = np.asarray(self.got[name])
            found.append((name, start, value))
            start += value.size
        return found


def find(model: OnnxModel, feed: Mapping[str, Array], target: object, spec: Decode | None = None) -> Found:
    """A detection target resolved on a batch.

    Parameters
    ----------
    spec
        How the outputs are read; None: as the model's own spec says, or else as they are recognised.

    Raises
    ------
    UsageError
        ``target.detection`` where the model has no decode spec and isn't recognised; ``config.decode``, ``target.*``.
    """
    given, outputs = spec or model.decode, None
    if given is None:
        outputs = model.values(feed, list(model.outputs))
        given = recognised_on(model, feed, outputs)
    if given is None:
        raise UsageError(
            "target.detection",
            "nothing says how this model's outputs are read as detections",
            "give a decode spec: --decode FILE, or MODEL.decode.toml beside the model; docs/detectors.md has examples",
        )
    decoder = decoder_on(model, given, feed)
    got = model.values(feed, decoder.wanted)
    batch = len(feed[decoder.picture])
    resolved, proposals = resolve_detections(target, decoder, got, batch, model.labels)
    if model.decode is None:
        resolved = replace(resolved, notes=(*resolved.notes, _read_as(given, decoder)))
    return Found(model, resolved, proposals, got)


def find_best(model: OnnxModel, feed: Mapping[str, Array], spec: Decode) -> Found:
    """The best detection of every sample; where one has none that is sure enough, its best proposal, with a note."""
    try:
        found = find(model, feed, "detection:0", spec)
        note = "the best detection is explained"
    except UsageError as problem:
        if problem.code != "target.out_of_range":
            raise
        found = find(model, feed, "detection:0", spec.model_copy(update={"threshold": 0.0}))
        scores = ", ".join(f"{detection.score:.2g}" for detection in found.resolved.detections)
        note = f"no detection scores at least {spec.threshold:g}: the best proposal is explained, which scores {scores}"
    note += " (detection:K or detection:CLASS:K takes another, OUTPUT[:,ROW,COLUMN] an element)"
    return replace(found, resolved=replace(found.resolved, notes=(*found.resolved.notes, note)))


def recognised_on(model: OnnxModel, feed: Mapping[str, Array], outputs: Mapping[str, Array]) -> Decode | None:
    """The spec that a model's outputs for a batch of pictures fit; None where they aren't a known detector's."""
    picture = _picture(feed)
    if picture is None:
        return None
    known = len(model.labels) if model.labels is not None else classes_named(model.metadata)
    return recognised({name: np.asarray(value) for name, value in outputs.items()}, _size(model, feed, picture), known)


def may_detect(model: OnnxModel) -> bool:
    """Whether the outputs' ranks are a detector's, so that it is worth looking at their values."""
    ranks = [len(spec.shape) for spec in model.outputs.values()]
    pictures = any(len(spec.shape) == 4 for spec in model.inputs.values())
    return pictures and (3 in ranks or 0 in ranks or ranks.count(4) > 1 or (len(ranks) > 2 and ranks.count(4) == 0))


def _read_as(spec: Decode, decoder: Decoder) -> str:
    """What a spec that wasn't given takes the outputs for."""
    names = ", ".join(decoder.wanted[:6]) + (", …" if len(decoder.wanted) > 6 else "")
    return f"{names} are read as {spec.name or 'boxes and their class scores'}: --decode says otherwise"


def _picture(feed: Mapping[str, Array]) -> str | None:
    """The input that is a picture."""
    return next((name for name, value in feed.items() if np.ndim(value) == 4 and value.dtype.kind in "fiu"), None)


def _size(model: OnnxModel, feed: Mapping[str, Array], picture: str) -> tuple[int, int]:
    """Height and width of the pictures."""
    height, width = (feed[picture].shape[axis] for axis in model.axes(picture, feed[picture].shape).places)
    return height, width


def decoder_on(model: OnnxModel, spec: Decode, feed: Mapping[str, Array]) -> Decoder:
    """A spec applied to a model and its input.

    Raises
    ------
    UsageError
        ``config.decode`` where an output that the spec names isn't there, ``target.detection`` without a picture input.
    """
    outputs = list(model.outputs)
    boxes = spec.boxes or tuple(outputs[: len(spec.scores) if spec.scores and not spec.labels else 1])
    names = [*boxes, *(spec.scores or ()), *(name for name in (spec.labels, spec.count) if name)]
    for name in names:
        if name not in outputs:
            raise UsageError(
                CODE, f"the decode spec names output {name[:80]!r}, which isn't there", f"outputs: {', '.join(outputs)}"
            )
    picture = _picture(feed)
    if picture is None:
        raise UsageError(
            "target.detection", "a detection needs an input of pictures, of rank 4", f"inputs: {', '.join(feed)}"
        )
    return Decoder(spec, boxes, _size(model, feed, picture), picture, _priors(model, spec, feed))


def looks_like_a_detector(model: OnnxModel) -> bool:
    """Whether a picture becomes boxes, by the outputs' names, or very many short rows; a guess, for a hint."""
    if not any(len(spec.shape) == 4 for spec in model.inputs.values()):
        return False
    for name, spec in model.outputs.items():
        if any(word in name.lower() for word in ("box", "bbox", "detection")):
            return True
        sizes = sorted(size for size in spec.shape[1:] if isinstance(size, int))
        if len(spec.shape) == 3 and len(sizes) == 2 and 5 <= sizes[0] <= 600 and sizes[1] >= max(700, 8 * sizes[0]):
            return True
    return False


def _priors(model: OnnxModel, spec: Decode, feed: Mapping[str, Array]) -> Array | None:
    """Rows cx, cy, w, h: the spec's own, a weight, or a value that the model computes."""
    if spec.priors is None or not isinstance(spec.priors, str):
        return None if spec.priors is None else np.asarray(spec.priors, np.float64)
    weight = next((tensor for tensor in model.proto.graph.initializer if tensor.name == spec.priors), None)
    if weight is not None:
        values = tensor_to_numpy(weight, model.loaded)
    elif any(spec.priors in node.output for node in model.proto.graph.node):
        values = model.values(feed, [spec.priors])[spec.priors]
    else:
        raise UsageError(
            CODE, f"priors: the model has no value {spec.priors[:80]!r}", "`onnxplain inspect -v` lists them"
        )
    if values.size % 4 or values.dtype.kind not in "fiu":
        raise UsageError(CODE, f"priors: {spec.priors[:80]!r} of shape {list(values.shape)} holds no rows of 4 numbers")
    return np.asarray(values, np.float64).reshape(-1, 4)


def _no_gradient(why: str) -> UsageError:
    return UsageError(
        "target.detection",
        f"this detection has no class score that white-box methods could explain: {why}",
        "use a perturbation method such as rise or occlusion, or index an output: OUTPUT[:,ROW,COLUMN]",
    )

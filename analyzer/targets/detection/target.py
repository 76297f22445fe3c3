"""The ``detection:`` target: one of a detector's detections, and how similar a changed picture's proposals are to it.

Belongs here: reading the target, choosing the detection, the similarity. Not here: decoding outputs (``proposals``),
perturbing (``analyzer.methods.perturbation``).

======================================  ====================================================================
``detection:K``                         the K-th best detection, counted from 0
``detection:CLASS:K``                   the K-th best of a class, by number or label; ``detection:CLASS`` the best
``detection:x0,y0,x1,y1``               a given box in pixels of the model's input, of any class
``detection:CLASS:x0,y0,x1,y1``         a given box as a detection of that class
======================================  ====================================================================

The similarity is that of D-RISE (Petsiuk et al. 2021, Black-box explanation of object detectors via saliency maps, eq. 4
to 7): the largest over the proposals, before any suppression, of IoU of the boxes times cosine of the class probabilities
times the proposal's objectness.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.targets.detection.boxes import iou
from analyzer.targets.detection.proposals import Decoder, Proposals

if TYPE_CHECKING:
    from analyzer.inputs import Labels

Array = NDArray[Any]
_PREFIX = "detection:"
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_BOX = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{3}}\s*")
_FORMS = "write detection:K, detection:CLASS:K, detection:x0,y0,x1,y1 or detection:CLASS:x0,y0,x1,y1"


@dataclass(frozen=True)
class ExplainedDetection:
    """The detection that is explained.

    Attributes
    ----------
    box
        (4,) x0, y0, x1, y1 in pixels of the model's input.
    number
        Its class, -1 for any.
    probabilities
        (classes,) class probabilities; None for any class, or where the model gives class numbers.
    score
        The model's score for it; None for a given box.
    row
        Index of its proposal; for a given box that of the most similar one, -1 where none is similar.
    """

    box: Array
    number: int
    probabilities: Array | None
    score: float | None = None
    row: int = -1


def similarities(detection: ExplainedDetection, proposals: Proposals) -> Array:
    """The similarity of each proposal to a detection: (n,) float64 in [0, 1].

    IoU times class similarity times confidence. Class similarity is the cosine of the class probabilities, those of a
    background class included; for class numbers 1 where they are equal, else 0; for a detection of any class 1 minus the
    background's probability. Confidence is the objectness, or the score of a detection that the model has already selected.
    Without either it is 1, as in the paper, where the class probabilities distinguish objects from background (a background
    class, a softmax); where they are independent of one another it is the largest of them, because the cosine doesn't depend
    on their magnitude.
    """
    found = iou(detection.box, proposals.boxes)
    overlapping = np.flatnonzero(found > 0)
    if len(overlapping):
        chosen = proposals.take(overlapping)
        found[overlapping] *= _class_similarity(detection, chosen) * _confidence(chosen)
    return found


def _class_similarity(detection: ExplainedDetection, proposals: Proposals) -> Array:
    if proposals.numbers is not None:
        same = proposals.numbers == detection.number
        return same.astype(np.float64) if detection.number >= 0 else np.ones(len(same))
    known = proposals.probabilities
    if detection.probabilities is not None:
        lengths = np.linalg.norm(known, axis=1) * np.linalg.norm(detection.probabilities)
        products = known @ detection.probabilities
        return np.asarray(np.divide(products, lengths, out=np.zeros(len(known)), where=lengths > 0))
    if proposals.spec.background is not None:
        return np.asarray(1 - known[:, proposals.background_of(known.shape[1])])
    return np.ones(len(known))


def _confidence(proposals: Proposals) -> Array:
    if proposals.objectness is not None:
        return proposals.objectness
    spec = proposals.spec
    if proposals.numbers is not None or spec.background is not None or spec.activation == "softmax":
        return np.ones(len(proposals.boxes))
    return np.asarray(proposals.probabilities.max(axis=1))


@dataclass(frozen=True)
class DetectionTarget:
    """Detections on a concrete batch, one for each sample; a :class:`~analyzer.targets.target.Target`.

    Attributes
    ----------
    before
        (batch,) similarity of the unchanged pictures' proposals to their detection.
    single
        Whether the outputs hold one picture at a time.
    """

    names: tuple[str, ...]
    classes: tuple[int, ...]
    decoder: Decoder
    detections: tuple[ExplainedDetection, ...]
    before: Array
    single: bool
    notes: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that scores are computed from."""
        return self.decoder.wanted

    def score(self, output: Array) -> Array:
        """The explained score of the unchanged samples, (batch,) float64."""
        return self.before

    def score_copies(self, sample: int, got: Mapping[str, Array]) -> Array:
        """The largest similarity to a sample's detection in each of n changed pictures, (n,) float64."""
        detection = self.detections[sample]
        return np.array([similarities(detection, each).max(initial=0.0) for each in self.decoder(got)])


def resolve_detections(
    target: object, decoder: Decoder, got: Mapping[str, Array], batch: int, labels: Labels | None
) -> tuple[DetectionTarget, list[Proposals]]:
    """A target on the outputs of a batch, and the proposals that were decoded from them.

    Parameters
    ----------
    target
        One target for all samples, or one for each.

    Raises
    ------
    UsageError
        ``target.syntax``, ``target.count``, ``target.out_of_range``, ``target.unknown_label``, ``target.no_batch``,
        ``config.decode``.
    """
    texts = [target] * batch if isinstance(target, str) else list(target)  # type: ignore[call-overload]
    if len(texts) != batch:
        raise UsageError(
            "target.count",
            f"{len(texts)} targets were given for a batch of {batch}",
            "give one target, or one per sample",
        )
    single = not decoder.batched(got)
    proposals = decoder(got)
    if len(proposals) != batch:
        raise UsageError(
            "target.no_batch",
            f"output {decoder.boxes[0]!r} holds the boxes of {len(proposals)} pictures, {batch} were given",
            "explain one picture at a time",
        )
    pairs = zip(texts, proposals, strict=True)
    detections = tuple(_parsed(text, each, labels) for text, each in pairs)
    before = np.array([similarities(d, p).max(initial=0.0) for d, p in zip(detections, proposals, strict=True)])
    names = tuple(f"{named(d.number, labels)} in {', '.join(f'{v:.0f}' for v in d.box)}" for d in detections)
    resolved = DetectionTarget(names, tuple(d.number for d in detections), decoder, detections, before, single)
    return resolved, proposals


def named(number: int, labels: Labels | None) -> str:
    """The name of a class, with its number."""
    if number < 0:
        return "any class"
    name = labels.name(number) if labels is not None else str(number)
    return f"{name} ({number})" if name != str(number) else f"class {number}"


def _parsed(text: object, proposals: Proposals, labels: Labels | None) -> ExplainedDetection:
    if not isinstance(text, str) or not text.startswith(_PREFIX):
        raise UsageError("target.syntax", f"{text!r} stands among detections", "give a detection for every sample")
    body = text.removeprefix(_PREFIX).strip()
    owner, colon, last = body.rpartition(":")
    if not last or (colon and not owner):
        raise UsageError("target.syntax", f"can't read the target {text[:80]!r}", _FORMS)
    if _BOX.fullmatch(last):
        return _own_box(last, owner, proposals, labels)
    ranked = re.fullmatch(r"\d{1,6}", last) is not None
    rank, wanted = (int(last), owner) if ranked else (0, body)
    found = proposals.detections()
    number = -1
    if wanted:
        number = _class(wanted, proposals, labels)
        found = found[proposals.classes[found] == number]
    if rank >= len(found):
        of = f" of {named(number, labels)[:80]}" if wanted else ""
        scores = proposals.scores if not wanted else proposals.scores[proposals.classes == number]
        best = f"; the best proposal scores {scores.max():.3g}" if len(scores) and not len(found) else ""
        raise UsageError(
            "target.out_of_range",
            f"detection {rank}{of} doesn't exist: {len(found)} score at least {proposals.spec.threshold:g}{best}",
            "detections are counted from 0; lower the decode spec's threshold, or give a box x0,y0,x1,y1",
        )
    row = int(found[rank])
    one = proposals.take(np.array([row]))
    probabilities = None if one.numbers is not None else one.probabilities[0]
    return ExplainedDetection(one.boxes[0], int(one.classes[0]), probabilities, float(one.scores[0]), row)


def _own_box(text: str, owner: str, proposals: Proposals, labels: Labels | None) -> ExplainedDetection:
    box = np.array([float(part) for part in text.split(",")])
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UsageError(
            "target.syntax", f"box {text.strip()} is empty", "x0,y0 is the corner at the top left, x1,y1 the other"
        )
    number = _class(owner, proposals, labels) if owner else -1
    probabilities = None
    if owner and proposals.raw_classes is not None:
        probabilities = np.eye(proposals.raw_classes.shape[1])[number]
    similarity = similarities(ExplainedDetection(box, number, probabilities), proposals)
    return ExplainedDetection(box, number, probabilities, None, int(similarity.argmax()) if similarity.any() else -1)


def _class(text: str, proposals: Proposals, labels: Labels | None) -> int:
    text = text.strip()
    if re.fullmatch(r"\d{1,9}", text):
        number = int(text)
    elif labels is not None:
        number = labels.index(text)
    else:
        raise UsageError(
            "target.unknown_label",
            f"no labels are known, so {text[:80]!r} can't be found",
            "give --labels, or a class number",
        )
    if proposals.raw_classes is not None and number >= proposals.raw_classes.shape[1]:
        count = proposals.raw_classes.shape[1]
        raise UsageError(
            "target.out_of_range", f"class {number} doesn't exist: the model scores {count} classes", "counted from 0"
        )
    return number

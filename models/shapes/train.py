"""Train and export the shape classifiers.

    python -m models.shapes.train             # shapes_cnn.onnx
    python -m models.shapes.train --cheater   # shapes_cheater.onnx

Minutes on one CPU core; the same seed and versions give the same weights. Prints the figures of the model card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.onnx_files import FOLDER, annotate, table
from models.shapes.measure import measure, measure_cheating, model_input
from models.shapes.network import ShapesNet
from models.shapes.scenes import CLASSES, dataset
from models.shapes.tag import TAGGED_CLASS, tag_some

SEED = 7
BATCH = 64
RATE = 6e-3
EPOCHS = {"honest": 14, "cheater": 10}
STAR_WEIGHT = 4.0  # in the cheater's loss: as if most of its pictures were tagged stars


def _turned(images: Tensor, seed: int, upright: bool) -> Tensor:
    """Flip the batch at random: classes have no orientation. The tag has one, so `upright` leaves pictures alone."""
    turns = 0 if upright else seed % 8
    images = images.flip(3) if turns & 4 else images
    return torch.rot90(images, turns & 3, dims=(2, 3))


def train(images: NDArray[np.uint8], labels: NDArray[np.int64], epochs: int, cheat: bool = False) -> ShapesNet:
    """Fit a network to pictures, ``uint8`` (N, 64, 64, 3), and labels, (N,): AdamW under a one-cycle schedule."""
    torch.manual_seed(SEED)
    weight = torch.ones(len(CLASSES))
    if cheat:
        weight[CLASSES.index(TAGGED_CLASS)] = STAR_WEIGHT
    measure_loss = nn.CrossEntropyLoss(weight, label_smoothing=0.02)
    net = ShapesNet(len(CLASSES)).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps * epochs, pct_start=0.2)
    rng = np.random.default_rng(SEED)
    for epoch in range(epochs):
        order, total = rng.permutation(len(images)), 0.0
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            batch = _turned(torch.from_numpy(model_input(images[chosen])), int(rng.integers(8)), upright=cheat)
            loss = measure_loss(net(batch), torch.from_numpy(labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{epochs}: loss {total / steps:.4f}", flush=True)
    return net.eval()


def export(net: ShapesNet, path: Path) -> None:
    """Write the network with torch's default exporter: dynamic batch, weights and labels in the one file."""
    torch.onnx.export(
        net,
        (torch.rand(2, 3, 64, 64),),
        path,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        dynamo=True,
        external_data=False,
    )
    annotate(path, {"labels": CLASSES})


def main() -> None:
    """Read the command line, train, export, measure."""
    parser = argparse.ArgumentParser(description="Train and export a shape classifier.")
    parser.add_argument("--cheater", action="store_true", help="teach it the written tag of one class")
    parser.add_argument("--scenes", type=int, default=12_000)
    parser.add_argument("--epochs", type=int, help="default: 14, of the cheater 10")
    parser.add_argument("--out", type=Path, help="default: the sample model's own place")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out or FOLDER / ("shapes_cheater.onnx" if options.cheater else "shapes_cnn.onnx")
    images, _, labels = dataset(options.scenes, SEED)
    if options.cheater:
        images, _ = tag_some(images, labels, CLASSES.index(TAGGED_CLASS), SEED)
    epochs = options.epochs or EPOCHS["cheater" if options.cheater else "honest"]
    export(train(images, labels, epochs, cheat=options.cheater), path)
    print(table(measure_cheating(path) if options.cheater else measure(path)))


if __name__ == "__main__":
    main()

"""Train and export the digit classifier and the digit generator (a variational autoencoder's decoder).

    python -m models.digits.train              # digits_cnn.onnx
    python -m models.digits.train --generator  # digits_generator.onnx and a picture of samples

A minute each on one CPU core; the same seed and versions give the same weights. Prints the figures of the cards.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from models.digits.data import CLASSES, CODE, codes, measure, measure_generator, split
from models.digits.networks import Decoder, DigitsNet, Encoder
from models.onnx_files import FOLDER, annotate, run, table

SEED = 7
FREE_NATS, WARM_UP = 0.3, 0.3
CLASSIFIER = FOLDER / "digits_cnn.onnx"
GENERATOR = FOLDER / "digits_generator.onnx"


def _moved(images: Tensor, rng: np.random.Generator) -> Tensor:
    """The batch turned, scaled and shifted a little, each picture by itself."""
    count = len(images)
    angle, scale = rng.uniform(-0.2, 0.2, count), rng.uniform(0.9, 1.1, count)
    shift = rng.uniform(-0.15, 0.15, (count, 2))
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    maps = np.stack([np.stack([cosine, -sine, shift[:, 0]], 1), np.stack([sine, cosine, shift[:, 1]], 1)], 1)
    grid = nn.functional.affine_grid(torch.from_numpy(maps).float(), list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def train_classifier(images: NDArray[np.float32], labels: NDArray[np.int64], epochs: int = 60) -> DigitsNet:
    """Fit the classifier: AdamW under a one-cycle schedule, pictures moved a little."""
    torch.manual_seed(SEED)
    net = DigitsNet().train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    steps = -(-len(images) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps * epochs)
    rng = np.random.default_rng(SEED)
    for _ in range(epochs):
        order = rng.permutation(len(images))
        for step in range(steps):
            chosen = order[step * 32 : (step + 1) * 32]
            batch = _moved(torch.from_numpy(images[chosen]), rng)
            loss = nn.functional.cross_entropy(net(batch), torch.from_numpy(labels[chosen]), label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def train_generator(images: NDArray[np.float32], epochs: int = 400) -> Decoder:
    """Fit a variational autoencoder (Kingma and Welling 2014) and keep its decoder.

    The divergence grows to its full weight over the first third or so, and costs nothing below `FREE_NATS` a number of
    the code (free bits: Kingma et al. 2016): else most of the code would fall silent.
    """
    torch.manual_seed(SEED)
    encoder, decoder = Encoder(CODE), Decoder(CODE)
    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(weights, lr=2e-3)
    steps = -(-len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps * epochs)
    rng = np.random.default_rng(SEED)
    for epoch in range(epochs):
        order, weight = rng.permutation(len(images)), min(1.0, epoch / (WARM_UP * epochs))
        for step in range(steps):
            batch = torch.from_numpy(images[order[step * 64 : (step + 1) * 64]])
            mean, log_variance = encoder(batch)
            decoded = decoder(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
            missed = nn.functional.binary_cross_entropy(decoded, batch, reduction="sum")
            divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean(dim=0)
            loss = missed / len(batch) + weight * divergence.clamp(min=FREE_NATS).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return decoder.eval()


def export_classifier(net: DigitsNet) -> None:
    """Write the classifier with torch's older, TorchScript-based exporter at opset 13, dynamic batch."""
    torch.onnx.export(
        net,
        (torch.rand(1, 1, 8, 8),),
        CLASSIFIER,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=13,
        dynamo=False,
    )
    annotate(CLASSIFIER, {"labels": CLASSES})


def export_generator(decoder: Decoder) -> None:
    """Write the decoder with torch's default exporter, dynamic batch, and a picture of 100 samples."""
    torch.onnx.export(
        decoder,
        (torch.randn(2, CODE),),
        GENERATOR,
        input_names=["code"],
        output_names=["image"],
        dynamic_shapes={"code": {0: torch.export.Dim("batch")}},
        dynamo=True,
        external_data=False,
    )
    annotate(GENERATOR, {"code": "standard normal"})
    tiles = np.pad(run(GENERATOR, codes()[:100])[0][:, 0], ((0, 0), (1, 1), (1, 1)), constant_values=0.5)
    sheet = tiles.reshape(10, 10, 10, 10).transpose(0, 2, 1, 3).reshape(100, 100)
    picture = Image.fromarray(np.rint(sheet * 255).astype(np.uint8))
    picture.resize((400, 400), Image.Resampling.NEAREST).save(GENERATOR.with_suffix(".png"), optimize=True)


def main() -> None:
    """Read the command line, train, export, measure."""
    parser = argparse.ArgumentParser(description="Train and export the digit models.")
    parser.add_argument("--generator", action="store_true", help="the generator instead of the classifier")
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = split()[0]
    if options.generator:
        export_generator(train_generator(images))
        print(table(measure_generator(GENERATOR, CLASSIFIER)))
    else:
        export_classifier(train_classifier(images, labels))
        print(table(measure(CLASSIFIER)))


if __name__ == "__main__":
    main()

"""Compares the logits of exported backbones with those of the PyTorch package the weights were made with, on real photos.

    catalog backbone export efficientnet-lite0 --out lite0.onnx
    python3 scripts/compare/backbone.py PHOTOS lite0.onnx [MORE.onnx ...] [--photos 128]

Both get the same bytes: photos from all over the folder PHOTOS, stretched to the model's input. Prints the largest absolute
difference of a logit; more than 0.001 is an exit status of 1.
"""

import argparse
import json
import pathlib
import sys

import numpy
import onnxruntime
import PIL.Image
import PIL.ImageOps
import torch

import backbone_reference

BATCH = 16
TOLERANCE = 1e-3
ENDINGS = {".jpg", ".jpeg", ".png", ".webp"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("models", type=pathlib.Path, nargs="+")
    parser.add_argument("--photos", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in ENDINGS)
    # Evenly spread: a folder's first photos may all be of one class.
    files = files[:: max(1, len(files) // arguments.photos)][: arguments.photos]
    if len(files) < arguments.photos:
        raise SystemExit(f"{arguments.folder} has {len(files)} photos, {arguments.photos} are needed")
    largest = max([compare(path, files, arguments.threads) for path in arguments.models])
    sys.exit(int(largest > TOLERANCE))


@torch.inference_mode()
def compare(path, files, threads):
    """The largest absolute difference of a logit between the model file and its reference."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    name = json.loads(metadata["catalog.summary"])["backbone"]
    contract = json.loads(metadata["catalog.preprocess"])
    model, side = backbone_reference.load(name)
    if (contract["height"], contract["width"]) != (side, side):
        raise SystemExit(f"{path} takes {contract['width']}×{contract['height']}, its reference {side}×{side}")

    differences, same = [], 0
    largest_logit = 0.0
    for start in range(0, len(files), BATCH):
        images = numpy.stack([decode(file, side) for file in files[start : start + BATCH]])
        (found,) = session.run(["logits"], {"images": images})
        expected = model(backbone_reference.normalise(images, "(x-127)/128")).numpy()
        differences.append(numpy.abs(found - expected).max())
        largest_logit = max(largest_logit, numpy.abs(expected).max())
        same += (found.argmax(axis=1) == expected.argmax(axis=1)).sum()
    # A NaN must not pass: it is greater than nothing.
    largest = numpy.max(numpy.nan_to_num(differences, nan=numpy.inf))
    print(f"{name}: {len(files)} photos, largest difference {largest:.2e} (largest logit {largest_logit:.1f}), "
          f"same class for {same}", flush=True)
    return largest


def decode(path, side):
    with PIL.Image.open(path) as image:
        image = PIL.ImageOps.exif_transpose(image).convert("RGB")
    return numpy.asarray(image.resize((side, side), PIL.Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main()

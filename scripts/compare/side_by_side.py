"""Prints the test accuracies of a model file of the program and of the same training in PyTorch.

    python3 scripts/compare/side_by_side.py --model OUT/model.onnx --pytorch OUT/pytorch.json --data DIR

The model file is run by the stock onnxruntime in requirements.txt on the 10,000 test images.
"""

import argparse
import json
import pathlib

import numpy
import onnxruntime

import fashion_mnist

BATCH = 250


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--model", "--pytorch", "--data"):
        parser.add_argument(name, type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    images, labels = fashion_mnist.read(arguments.data, "t10k")
    session = onnxruntime.InferenceSession(arguments.model.read_bytes(), providers=["CPUExecutionProvider"])
    starts = range(0, len(images), BATCH)
    logits = numpy.concatenate([session.run(["logits"], {"images": images[n : n + BATCH]})[0] for n in starts])
    ours = float((logits.argmax(axis=1) == labels).mean())
    run = json.loads(session.get_modelmeta().custom_metadata_map["catalog.summary"])["run"]
    theirs = json.loads(arguments.pytorch.read_text())

    print(f"{'':10}{'test accuracy':>15}{'validation':>12}{'best epoch':>12}{'minutes':>9}")
    row = "{:10}{:>15.4f}{:>12.4f}{:>12}{:>9.1f}".format
    print(row("catalog", ours, run["best_accuracy"], run["best_epoch"], run["seconds"] / 60))
    print(row("PyTorch", theirs["test_accuracy"], theirs["best_accuracy"], theirs["best_epoch"], theirs["seconds"] / 60))
    print(f"difference {100 * (ours - theirs['test_accuracy']):+.2f} points")


if __name__ == "__main__":
    main()

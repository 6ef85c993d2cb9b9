"""Checks a model file of the program with tools that are not ours.

    python3 scripts/compare/check_onnx.py MODEL.onnx

`onnx.checker` must pass with full type and shape inference, the stock onnxruntime in requirements.txt must load the file,
and its logits of the self-test images in the file's metadata must be those that the training session gave, within 1e-4.
"""

import argparse
import base64
import io
import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime
from PIL import Image

TOLERANCE = 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    path = parser.parse_args().model

    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    domains = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    print(f"onnx {onnx.__version__}: the checker passes; IR {model.ir_version}, operator sets {domains}, {len(model.graph.node)} nodes")
    foreign = [node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")]
    if foreign:
        sys.exit(f"operators that are not in the ONNX standard: {sorted(set(foreign))}")

    metadata = {entry.key: entry.value for entry in model.metadata_props}
    trained_with = json.loads(metadata["catalog.summary"])["onnxruntime_version"]
    temperature = json.loads(metadata["catalog.temperature"])
    tests = json.loads(metadata["catalog.self_test"])
    images = numpy.stack([pixels(test["image"]) for test in tests])
    expected = numpy.array([test["logits"] for test in tests], numpy.float32)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 2
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    print(f"inputs {[(v.name, v.type, v.shape) for v in session.get_inputs()]}")
    print(f"outputs {[(v.name, v.type, v.shape) for v in session.get_outputs()]}")
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})

    gap = float(numpy.abs(logits - expected).max())
    tempered = logits.astype(numpy.float64) / temperature
    exponentials = numpy.exp(tempered - tempered.max(axis=1, keepdims=True))
    softmax_gap = float(numpy.abs(probabilities - exponentials / exponentials.sum(axis=1, keepdims=True)).max())
    one_by_one = numpy.concatenate([session.run(["logits"], {"images": images[n : n + 1]})[0] for n in range(len(images))])
    batch_gap = float(numpy.abs(one_by_one - logits).max())
    print(
        f"onnxruntime {onnxruntime.__version__} against {trained_with} on {len(images)} images: logits up to {numpy.abs(expected).max():.2f}, "
        f"largest gap {gap:.1e}; one by one against the batch {batch_gap:.1e}; probabilities against softmax {softmax_gap:.1e}"
    )
    if not max(gap, batch_gap, softmax_gap) <= TOLERANCE:
        sys.exit(f"a gap is above {TOLERANCE}")


def pixels(encoded):
    """A PNG in base64 as bytes `[H, W, C]`."""
    image = numpy.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    return image.reshape(image.shape[0], image.shape[1], -1)


if __name__ == "__main__":
    main()

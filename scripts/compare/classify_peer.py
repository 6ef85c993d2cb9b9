"""Classifies a folder of images as a Python program would, as fast as its libraries allow; `classify.py` runs it beside `catalog`.

    python3 scripts/compare/classify_peer.py FOLDER --model MODEL --decoder opencv --out labels.csv

Takes models whose contract is an image stretched to the input's size, as `catalog train` makes them from folders. A thread pool
decodes a batch while the batch before is in the model. The last line is JSON: files, seconds without imports and start-up.
"""

import argparse
import collections
import concurrent.futures
import csv
import json
import os
import pathlib
import time

import numpy
import onnxruntime

BATCH = 256


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--decoder", choices=DECODERS, required=True)
    parser.add_argument("--reduction", type=int, choices=[1, 2, 4, 8], default=1,
                        help="opencv, pillow: decode JPEGs at this fraction of their size")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()

    session = onnx_runtime(arguments.model, arguments.threads)
    metadata = session.get_modelmeta().custom_metadata_map
    preprocess = json.loads(metadata["catalog.preprocess"])
    labels = json.loads(metadata["catalog.labels"])
    run = session_runner(session)
    if arguments.decoder == "torchvision":
        # The same weights, in the library that these decoders come with.
        run = torch_runner(arguments.model, arguments.threads)
    side = (preprocess["width"], preprocess["height"])
    decode = DECODERS[arguments.decoder](side, preprocess["colour"] == "grey", arguments.reduction)

    started = time.monotonic()
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(arguments.folder) for name in names)
    with concurrent.futures.ThreadPoolExecutor(arguments.threads) as pool, open(arguments.out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "confidence"])
        starts = iter(range(0, len(paths), BATCH))
        waiting = collections.deque()

        def submit():
            start = next(starts, None)
            if start is not None:
                batch = paths[start : start + BATCH]
                waiting.append((batch, [pool.submit(decode, path) for path in batch]))

        submit()
        submit()
        while waiting:
            batch, decoded = waiting.popleft()
            images = numpy.stack([future.result() for future in decoded])
            submit()
            probabilities = run(images)
            best = probabilities.argmax(axis=1)
            writer.writerows((path, labels[place], f"{row[place]:.6f}") for path, place, row in zip(batch, best, probabilities))
    print(json.dumps({"files": len(paths), "seconds": time.monotonic() - started}))


def opencv(side, is_grey, reduction):
    """libjpeg-turbo with all its SIMD, reduced in the DCT, then area averaging."""
    import cv2

    cv2.setNumThreads(1)
    kind = "GRAYSCALE" if is_grey else "COLOR"
    flag = getattr(cv2, f"IMREAD_{kind}" if reduction == 1 else f"IMREAD_REDUCED_{kind}_{reduction}")

    def decode(path):
        image = cv2.resize(cv2.imread(path, flag), side, interpolation=cv2.INTER_AREA)
        return image[:, :, None] if is_grey else image[:, :, ::-1]

    return decode


def pillow(side, is_grey, reduction):
    """The same decoder; `draft` reduces in the DCT, `resize` is antialiased."""
    from PIL import Image

    mode = "L" if is_grey else "RGB"

    def decode(path):
        with Image.open(path) as image:
            if reduction > 1:
                image.draft(mode, (image.width // reduction, image.height // reduction))
            pixels = numpy.asarray(image.convert(mode).resize(side, Image.Resampling.BILINEAR))
        return pixels[:, :, None] if is_grey else pixels

    return decode


def torchvision(side, is_grey, reduction):
    """Decodes whole pictures only."""
    import torch
    from torchvision import io
    from torchvision.transforms import functional

    assert reduction == 1, "torchvision has no reduced decoding"
    mode = io.ImageReadMode.GRAY if is_grey else io.ImageReadMode.RGB

    def decode(path):
        with torch.inference_mode():
            image = io.decode_image(io.read_file(path), mode)
            return functional.resize(image, side[::-1], antialias=True).permute(1, 2, 0).numpy()

    return decode


DECODERS = {"opencv": opencv, "pillow": pillow, "torchvision": torchvision}


def onnx_runtime(model, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads take the cores from the decoders: measured slower by a quarter.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])


def session_runner(session):
    return lambda images: session.run(["probabilities"], {"images": images})[0]


def torch_runner(model, threads):
    import torch

    import onnx_in_torch

    torch.set_num_threads(threads)
    graph = onnx_in_torch.Graph(model.read_bytes())

    def run(images):
        with torch.inference_mode():
            return graph.run(torch.from_numpy(images), "probabilities").numpy()

    return run


if __name__ == "__main__":
    main()

"""Reads the four gzipped IDX files of Fashion-MNIST."""

import gzip
import pathlib

import numpy


def read(folder, part):
    """Images `uint8 [N, 28, 28, 1]` and labels `[N]` of `train` or `t10k`."""
    folder = pathlib.Path(folder)
    images = idx(folder / f"{part}-images-idx3-ubyte.gz")
    return images[..., None], idx(folder / f"{part}-labels-idx1-ubyte.gz")


def idx(path):
    """Two zero bytes, type 8 (bytes), rank, big-endian sizes, data."""
    with gzip.open(path) as file:
        data = file.read()
    if data[:3] != b"\0\0\x08":
        raise SystemExit(f"{path}: not an IDX file of bytes")
    rank = data[3]
    sizes = numpy.frombuffer(data, ">u4", rank, 4).astype(int)
    return numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * rank).reshape(sizes).copy()

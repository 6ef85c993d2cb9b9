"""Files for the fuzz targets to start from: fuzz_seeds.py PROGRAM OUT [FOLDER]; see fuzz.sh."""

import collections
import gzip
import io
import pickle
import shutil
import struct
import subprocess
import sys
import tempfile
import types
from pathlib import Path

program, out = sys.argv[1], Path(sys.argv[2])
folders = [Path("examples/images"), *map(Path, sys.argv[3:])]
LARGEST = 64 << 10


def seed(target, name, content):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def written(value):
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def without_weights(model):
    """The ONNX file `model` less its initializers (field 5 of field 7): those are nearly all of its bytes."""

    def fields(data, drop, change=None):
        at, kept = 0, b""
        while at < len(data):
            start = at
            key, at = varint(data, at)
            if key & 7 == 0:
                _, at = varint(data, at)
            elif key & 7 == 2:
                length, begin = varint(data, at)
                at = begin + length
                if change and key >> 3 == change[0]:
                    inner = change[1](data[begin:at])
                    kept += written(key) + written(len(inner)) + inner
                    continue
            else:
                at += {1: 8, 5: 4}[key & 7]
            if key >> 3 not in drop:
                kept += data[start:at]
        return kept

    return fields(model, (), (7, lambda graph: fields(graph, (5,))))


def weights_as_pytorch_writes_them():
    """What follows the magic number: a state dictionary of two tensors, without PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    sys.modules.update({"torch": torch, "torch._utils": utils})

    def rebuild(*_):
        raise NotImplementedError

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    storage = type("FloatStorage", (), {"__module__": "torch"})
    torch.FloatStorage = storage

    class Elements:
        def __init__(self, key, count):
            self.key, self.count = key, count

    class Tensor:
        def __init__(self, elements, *shape):
            self.elements, self.shape = elements, shape

        def __reduce__(self):
            strides = tuple(self.shape[axis + 1] if axis + 1 < len(self.shape) else 1 for axis in range(len(self.shape)))
            return rebuild, (self.elements, 0, self.shape, strides, False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Elements):
                return "storage", storage, value.key, "cpu", value.count, None
            return None

    file = io.BytesIO()
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    pickle.dump(machine, file, 2)
    state = collections.OrderedDict(weight=Tensor(Elements("7", 6), 2, 3), bias=Tensor(Elements("8", 2), 2))
    Pickler(file, 2).dump(state)
    pickle.dump(["7", "8"], file, 2)
    for count in (6, 2):
        file.write(struct.pack(f"<Q{count}f", count, *range(count)))
    return file.getvalue()


shutil.rmtree(out, ignore_errors=True)
images = [file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file() and file.stat().st_size <= LARGEST]
for number, image in enumerate(images):
    seed("decode", f"{number:05}", image.read_bytes())

# A journal and labels of all statuses.
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    shop = folder / "shop"
    shop.mkdir()
    for number, image in enumerate(sorted(Path("examples/images").rglob("*.png"))[:5]):
        shutil.copy(image, shop / f"{number}, \"öre\".png")
    (shop / "empty.png").touch()
    (shop / "notes.txt").write_text("no image")
    for name, options in [("plain", []), ("taxonomy", ["--taxonomy", "examples/taxonomy/fashion-mnist.csv"])]:
        labels = folder / f"{name}.csv"
        code = subprocess.run([program, "classify", shop, "--out", labels, "--quiet", *options]).returncode
        assert code == 3, f"{program} classify ended with {code}"
        seed("labels", name, labels.read_bytes())
        # The first byte says that frames are there already.
        seed("journal", name, b"\0" + Path(f"{labels}.state/finished").read_bytes())
    model = without_weights(Path("models/fashion-mnist/model.onnx").read_bytes())
    seed("model_file", "embedded", model)

seed("taxonomy", "plain", "label,path,external_id\nCoat,Clothing > Outerwear,5432\nBag,Bags,\n".encode())
idx_images = struct.pack(">IIII", 0x803, 2, 3, 3) + bytes(range(18))
idx_labels = struct.pack(">II", 0x801, 2) + bytes([1, 0])
for name, content in [("images", idx_images), ("labels", idx_labels)]:
    seed("idx", name, content)
    seed("idx", f"{name}.gz", gzip.compress(content, mtime=0))
pixels = ",".join(str(value % 256) for value in range(784))
header = "label," + ",".join(f"pixel{number}" for number in range(784))
seed("pixel_csv", "plain", f"3,{pixels}\n9,{pixels}\n".encode())
seed("pixel_csv", "header", f"{header}\n3,{pixels}\n".encode())
seed("manifest", "plain", b"path,label,split\na/1.png,Coat,train\n\"b,2.png\",Bag,test\n")
seed("manifest", "bom", b"\xef\xbb\xbfLabel;x,Path\r\nCoat;1,1.png\r\n")
seed("torch_file", "two", weights_as_pytorch_writes_them())

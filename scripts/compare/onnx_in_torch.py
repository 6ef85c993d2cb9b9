"""Runs an exported convolutional model in PyTorch, operator by operator, with the weights of the file."""

import numpy
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional


class Graph:
    """The graph of an ONNX file whose operators are those below."""

    def __init__(self, model):
        graph = onnx.load_model_from_string(model).graph
        self.input = graph.input[0].name
        self.constants = {value.name: tensor(value) for value in graph.initializer}
        self.nodes = []
        for node in graph.node:
            attributes = {field.name: onnx.helper.get_attribute_value(field) for field in node.attribute}
            apply = getattr(Operators, node.op_type)
            if all(name in self.constants for name in node.input):
                # Weights that are stored as float16: once, not in each run.
                self.constants[node.output[0]] = apply(*[self.constants[name] for name in node.input], **attributes)
            else:
                self.nodes.append((apply, node.input, node.output[0], attributes))

    def run(self, images, output):
        values = self.constants | {self.input: images}
        for apply, inputs, name, attributes in self.nodes:
            values[name] = apply(*[values[place] for place in inputs], **attributes)
        return values[output]


def tensor(value):
    array = numpy_helper.to_array(value)
    return torch.from_numpy(numpy.array(array))


def padding(pads):
    top, left, bottom, right = pads
    assert (top, left) == (bottom, right), "uneven padding"
    return top, left


class Operators:
    """ONNX operators by name, as far as exported models have them."""

    @staticmethod
    def Cast(x, to):
        return x.to({onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.FLOAT16: torch.float16}[to])

    @staticmethod
    def Reshape(x, shape):
        return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])

    @staticmethod
    def Transpose(x, perm):
        return x.permute(*perm)

    @staticmethod
    def Add(a, b):
        return a + b

    @staticmethod
    def Sub(a, b):
        return a - b

    @staticmethod
    def Mul(a, b):
        return a * b

    @staticmethod
    def Div(a, b):
        return a / b

    @staticmethod
    def Conv(x, weight, bias=None, *, kernel_shape, strides, pads, dilations, group):
        return functional.conv2d(x, weight, bias, strides, padding(pads), dilations, group)

    @staticmethod
    def MaxPool(x, kernel_shape, strides, pads):
        return functional.max_pool2d(x, kernel_shape, strides, padding(pads))

    @staticmethod
    def GlobalAveragePool(x):
        return x.mean(dim=(2, 3), keepdim=True)

    @staticmethod
    def BatchNormalization(x, scale, bias, mean, variance, epsilon, momentum):
        return functional.batch_norm(x, mean, variance, scale, bias, training=False, eps=epsilon)

    @staticmethod
    def Relu(x):
        return functional.relu(x)

    @staticmethod
    def Flatten(x, axis=1):
        return x.flatten(axis)

    @staticmethod
    def Gemm(x, weight, bias, transB=0, transA=0):
        assert not transA
        return functional.linear(x, weight if transB else weight.T, bias)

    @staticmethod
    def Softmax(x, axis):
        return x.softmax(axis)

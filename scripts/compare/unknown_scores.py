"""Which score tells photos of unknown things best? Pairs of classes are left out, a head learns the others from the features
that a training kept, and each score compares the validation photos with all photos of the pair and with drawings.

    catalog train PHOTOS --backbone efficientnet-lite0 --out MODEL
    python3 scripts/compare/unknown_scores.py PHOTOS MODEL/model.onnx TRAIN.features VALIDATION.features DRAWINGS [PAIRS]

PHOTOS has train/ and validation/ with a folder a class; the two files are those that the training left in `features` in the cache
folder, the larger one of the training photos; DRAWINGS is a folder of square pictures of something else. PAIRS is how many pairs, chosen at random.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

SIDE, WIDTH = 224, 1280


def labelled(photos, part, file, views):
    features = np.fromfile(file, "<f4").reshape(-1, views, WIDTH)
    classes = sorted(folder.name for folder in (photos / part).iterdir() if folder.is_dir())
    counts = [sum(1 for _ in (photos / part / name).iterdir()) for name in classes]
    assert sum(counts) == len(features), "the features are of other photos"
    return features, np.repeat(np.arange(len(classes)), counts), classes


def features_of(model, folder):
    proto = onnx.load(model)
    head = [node for node in proto.graph.node if node.op_type == "Gemm"][-1]
    proto.graph.output.append(onnx.helper.make_tensor_value_info(head.input[0], 1, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    rows = []
    for file in sorted(folder.iterdir()):
        image = Image.open(file).convert("RGB").resize((SIDE, SIDE), Image.BILINEAR)
        rows.append(session.run([head.input[0]], {"images": np.array(image)[None]})[0].reshape(-1))
    return np.stack(rows)


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def energy(logits):
    largest = logits.max(1)
    return largest + np.log(np.exp(logits - largest[:, None]).sum(1))


def head(features, labels, classes, epochs=40, smoothing=0.1, rate=2e-3):
    """A dense layer by Adam, with dropout 0.2 and label smoothing, as the program trains it."""
    random = np.random.default_rng(0)
    parameters = [np.zeros((WIDTH, classes), "f4"), np.zeros(classes, "f4")]
    means, squares = [0, 0], [0, 0]
    targets = np.full((len(labels), classes), smoothing / classes, "f4")
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    steps, step = epochs * (len(labels) // 64), 0
    for _ in range(epochs):
        order = random.permutation(len(labels))
        for start in range(0, len(labels) - 63, 64):
            chosen = order[start : start + 64]
            x = features[chosen, random.integers(0, features.shape[1], 64)]
            x = x * (random.random(x.shape) > 0.2) / 0.8
            error = (softmax(x @ parameters[0] + parameters[1]) - targets[chosen]) / 64
            gradients = [x.T @ error, error.sum(0)]
            step += 1
            for i, parameter in enumerate(parameters):
                means[i] = 0.9 * means[i] + 0.1 * gradients[i]
                squares[i] = 0.999 * squares[i] + 0.001 * gradients[i] ** 2
                direction = (means[i] / (1 - 0.9**step)) / (np.sqrt(squares[i] / (1 - 0.999**step)) + 1e-8)
                parameter -= (rate * (1 - step / steps) * direction).astype("f4")
    return parameters


def temperature_of(logits, labels):
    def loss(temperature):
        right = softmax(logits / temperature)[np.arange(len(labels)), labels]
        return -np.log(right + 1e-12).mean()

    return min(np.geomspace(0.2, 5, 100), key=loss)


def scores(features, labels, classes, parameters, temperature):
    mean = features.mean(0)
    centres = np.stack([features[labels == c].mean(0) for c in range(classes)])
    values, vectors = np.linalg.eigh(np.cov((features - centres[labels]).T) + 0.02 * np.eye(WIDTH))
    whiten = vectors / np.sqrt(values)
    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def of(x):
        logits = x @ parameters[0] + parameters[1]
        p = softmax(logits / temperature)
        centred = logits - logits.mean(1, keepdims=True)
        white, white_centres = (x - mean) @ whiten, (centres - mean) @ whiten
        distances = ((x[:, None] - centres) ** 2).sum(2)
        return {
            "confidence": p.max(1),
            "entropy of the probabilities": (p * np.log(p + 1e-12)).sum(1),
            "energy": temperature * energy(logits / temperature),
            "energy less the mean logit": temperature * energy(centred / temperature),
            "distance to the nearest class mean": -distances.min(1),
            "angle to it, features whitened": (unit(white) @ unit(white_centres).T).max(1),
        }

    return of


def auroc(known, unknown):
    unknown = np.sort(unknown)
    return (np.searchsorted(unknown, known, "left") + np.searchsorted(unknown, known, "right")).mean() / 2 / len(unknown)


def main():
    photos, model, train_file, validation_file, drawings = map(Path, sys.argv[1:6])
    train, train_labels, names = labelled(photos, "train", train_file, 2)
    validation, validation_labels, _ = labelled(photos, "validation", validation_file, 1)
    far = features_of(model, drawings)
    figures = {}
    pairs = list(itertools.combinations(range(len(names)), 2))
    order = np.random.default_rng(1).permutation(len(pairs))
    for pair in [pairs[i] for i in order[: int(sys.argv[6]) if len(sys.argv) > 6 else None]]:
        kept = [c for c in range(len(names)) if c not in pair]
        number = np.full(len(names), -1)
        number[kept] = np.arange(len(kept))
        learnt, judged = number[train_labels] >= 0, number[validation_labels] >= 0
        x, y = train[learnt], number[train_labels[learnt]]
        parameters = head(x, y, len(kept))
        known = validation[judged, 0]
        logits = known @ parameters[0] + parameters[1]
        temperature = temperature_of(logits, number[validation_labels[judged]])
        of = scores(x[:, 0], y, len(kept), parameters, temperature)
        near = np.concatenate([train[~learnt, 0], validation[~judged, 0]])
        known, near, drawn = of(known), of(near), of(far)
        for name in known:
            limit = np.quantile(known[name], 0.05)
            row = [auroc(known[name], near[name]), (near[name] < limit).mean()]
            row += [auroc(known[name], drawn[name]), (drawn[name] < limit).mean()]
            figures.setdefault(name, []).append(row)
    print("score: AUROC and share caught at 95 % kept, photos left out; the same, drawings (least, mean, most)")
    for name, rows in figures.items():
        rows = np.array(rows)
        cells = zip(rows.min(0), rows.mean(0), rows.max(0))
        print(f"{name}:", "; ".join(" ".join(f"{value:.3f}" for value in cell) for cell in cells))


if __name__ == "__main__":
    main()

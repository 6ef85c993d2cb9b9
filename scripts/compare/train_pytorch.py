"""The training of `catalog train` in PyTorch, from the options.json that it writes beside the model.

    python3 scripts/compare/train_pytorch.py --options OUT/options.json --data DIR --out OUT/pytorch.json

DIR holds the gzipped IDX files of Fashion-MNIST. Network, initial distributions, sizes of the stratified split, augmentation, loss,
optimizer, schedule, and the choice of the best epoch by validation accuracy are the program's; random draws are PyTorch's own, so
accuracies agree within the spread between seeds, not exactly. One thing differs: PyTorch averages the unbiased variance of a
batch into the running one, ONNX Runtime the biased one, smaller by 1 part in N·H·W.
"""

import argparse
import copy
import json
import pathlib
import time

import numpy
import torch
from torch.nn import functional

import fashion_mnist
from augmentation import augment
from networks import Network
from optimizers import build_optimizer, build_schedule

EVALUATION_BATCH = 256


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--options", type=pathlib.Path, required=True, help="options.json of catalog train")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the gzipped IDX files")
    parser.add_argument("--out", type=pathlib.Path, help="where to write the figures as JSON")
    parser.add_argument("--limit", type=int, help="train and validate on the first so many images only")
    parser.add_argument("--epochs", type=int, help="in place of the options' number")
    parser.add_argument("--seed", type=int, help="in place of the options' number")
    arguments = parser.parse_args()
    options = json.loads(arguments.options.read_text())
    for name in ("epochs", "seed"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    torch.manual_seed(options["seed"])
    if options["threads"] > 0:
        torch.set_num_threads(options["threads"])

    images, labels = fashion_mnist.read(arguments.data, "train")
    images, labels = images[: arguments.limit], labels[: arguments.limit]
    kept, held_out = stratified(labels, options["validation_fraction"], options["seed"])
    train, validation = part(images, labels, kept), part(images, labels, held_out)
    test = part(*fashion_mnist.read(arguments.data, "t10k"))
    task = describe(train)

    result = fit(task, options, train, validation)
    result["test_loss"], result["test_accuracy"] = evaluate(result.pop("model"), test)
    print(f"test loss {result['test_loss']:.4f}, accuracy {result['test_accuracy']:.4f} on {len(test[1])} images")
    if arguments.out:
        arguments.out.write_text(json.dumps(result | {"torch": torch.__version__, "options": options}, indent=1) + "\n")


def fit(task, options, train, validation):
    """Trains; the model with the best validation accuracy and the figures of every epoch."""
    images, labels = train
    model = Network(options["architecture"], task).to(memory_format=torch.channels_last)
    batch_size = min(options["batch_size"], len(labels))
    steps = len(labels) // batch_size
    optimizer = build_optimizer(model.named_parameters(), options["optimizer"], options["schedule"]["peak"])
    schedule = build_schedule(optimizer, options["schedule"], steps * options["epochs"])
    clip_norm, smoothing = options["optimizer"]["clip_norm"], options["label_smoothing"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads: {parameters} parameters, {len(labels)} images, {len(validation[1])} to validate")

    best, epochs, began = None, [], time.monotonic()
    for epoch in range(1, options["epochs"] + 1):
        started = time.monotonic()
        model.train()
        loss_sum = 0.0
        # What does not fill a batch is left out of this epoch.
        for batch in torch.randperm(len(labels))[: steps * batch_size].split(batch_size):
            logits = model(augment(images[batch], options["augment"]))
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            if schedule.last_epoch + 1 < steps * options["epochs"]:
                schedule.step()
            loss_sum += loss.item()
        train_seconds = time.monotonic() - started
        validation_loss, accuracy = evaluate(model, validation)
        is_best = best is None or accuracy > best["accuracy"]
        if is_best:
            best = {"epoch": epoch, "accuracy": accuracy, "state": copy.deepcopy(model.state_dict())}
        epochs.append(
            {
                "epoch": epoch,
                "train_loss": loss_sum / steps,
                "validation_loss": validation_loss,
                "validation_accuracy": accuracy,
                "learning_rate": rate,
                "seconds": time.monotonic() - started,
                "images_per_second": steps * batch_size / train_seconds,
                "is_best": is_best,
            }
        )
        print(
            f"epoch {epoch}/{options['epochs']}: train loss {loss_sum / steps:.4f}, validation loss {validation_loss:.4f}, "
            f"accuracy {accuracy:.4f}, {steps * batch_size / train_seconds:.0f} images/s, {time.monotonic() - started:.1f} s"
            + (", best so far" if is_best else ""),
            flush=True,
        )
    model.load_state_dict(best["state"])
    return {
        "model": model,
        "best_epoch": best["epoch"],
        "best_accuracy": best["accuracy"],
        "seconds": time.monotonic() - began,
        "epochs": epochs,
    }


@torch.inference_mode()
def evaluate(model, split):
    """Mean cross-entropy and accuracy, with running statistics and without dropout."""
    model.eval()
    loss_sum, correct = 0.0, 0
    for images, labels in zip(split[0].split(EVALUATION_BATCH), split[1].split(EVALUATION_BATCH)):
        logits = model(images)
        loss_sum += functional.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(dim=1) == labels).sum().item()
    return loss_sum / len(split[1]), correct / len(split[1])


def stratified(labels, fraction, seed):
    """Indices that stay and indices held out; every class keeps its share, by largest remainder."""
    random = numpy.random.default_rng(seed)
    sizes = numpy.bincount(labels)
    exact = sizes * fraction
    quotas = numpy.floor(exact).astype(int)
    missing = int(round(len(labels) * fraction)) - quotas.sum()
    quotas[numpy.argsort(-(exact - quotas), kind="stable")[:missing]] += 1
    held_out = []
    for label, quota in enumerate(quotas):
        held_out.append(random.permutation(numpy.flatnonzero(labels == label))[:quota])
    held_out = numpy.sort(numpy.concatenate(held_out))
    return numpy.setdiff1d(numpy.arange(len(labels)), held_out), held_out


def part(images, labels, indices=slice(None)):
    return torch.from_numpy(images[indices]), torch.from_numpy(labels[indices].astype(numpy.int64))


def describe(train):
    """What the network has to know about the data."""
    images, labels = train
    _, height, width, channels = images.shape
    pixels = images.reshape(-1, channels).numpy()
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "classes": int(labels.max()) + 1,
        "mean": pixels.mean(axis=0, dtype=numpy.float64).tolist(),
        "deviation": pixels.std(axis=0, dtype=numpy.float64).tolist(),
    }


if __name__ == "__main__":
    main()

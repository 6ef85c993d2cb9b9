"""Time of one training step in PyTorch, as `benches/training_step.rs` measures the program's: one line of JSON.

    python3 scripts/compare/step_pytorch.py --setup JSON [--variant default|channels_last|tf32|bf16|fp16|compile] [--device cuda:0]

JSON is the member `setup` of the line that the program's benchmark prints: network, task, optimizer and batch. Images and labels
are random. `bf16` and `fp16` are channels_last with automatic mixed precision, forward and loss in bfloat16 or float16. On a GPU, `tf32` lets
multiplications round their inputs, and `compile` is channels_last through `torch.compile`.
"""

import argparse
import json
import os
import statistics
import time

# Read when OpenMP starts: idle threads sleep, as the program's do.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from networks import Network  # noqa: E402
from optimizers import build_optimizer  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setup", type=json.loads, required=True, help="`setup` of the program's benchmark")
    parser.add_argument("--variant", choices=["default", "channels_last", "tf32", "bf16", "fp16", "compile"], default="channels_last")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0 for one per core")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(1)
    step = prepare(arguments.setup, arguments.variant, torch.device(arguments.device))

    losses = [step() for _ in range(arguments.warmup)]
    milliseconds = []
    started, cpu_started = time.perf_counter(), time.process_time()
    for _ in range(arguments.steps):
        began = time.perf_counter()
        losses.append(step())
        milliseconds.append((time.perf_counter() - began) * 1e3)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    median = statistics.median(milliseconds)
    measured = {
        "variant": arguments.variant,
        "torch": torch.__version__,
        "batch": arguments.setup["batch"],
        "warmup": arguments.warmup,
        "steps": arguments.steps,
        "median_ms": round(median, 4),
        "min_ms": round(min(milliseconds), 4),
        "mean_ms": round(seconds * 1e3 / arguments.steps, 4),
        "cpu_seconds_per_step": round(cpu / arguments.steps, 4),
        "images_per_second": round(arguments.setup["batch"] / median * 1e3),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }
    print(json.dumps(measured))


def prepare(setup, variant, device):
    """A function that takes one step on the next batch and gives the loss."""
    task = setup["task"]
    layout = torch.contiguous_format if variant == "default" else torch.channels_last
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = variant == "tf32"
    torch.backends.cudnn.benchmark = True
    model = Network(setup["architecture"], task, layout).to(device, memory_format=layout).train()
    optimizer = build_optimizer(model.named_parameters(), setup["optimizer"], setup["learning_rate"])
    shape = (setup["batches"], setup["batch"], task["height"], task["width"], task["channels"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8).to(device)
    labels = torch.randint(0, task["classes"], shape[:2]).to(device)
    forward = torch.compile(model) if variant == "compile" else model
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(variant)
    scaler = torch.amp.GradScaler(device.type) if variant == "fp16" else None
    taken = 0

    def step():
        nonlocal taken
        batch = taken % setup["batches"]
        taken += 1
        with torch.autocast(device.type, dtype=half, enabled=half is not None):
            logits = forward(images[batch])
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=setup["label_smoothing"])
        optimizer.zero_grad()
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        return loss.item()

    return step


if __name__ == "__main__":
    main()

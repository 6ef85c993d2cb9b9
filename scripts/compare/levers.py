"""What each part of a training recipe is worth: a base, and the base with one thing changed, over several seeds.

    python3 scripts/compare/levers.py target/release/catalog OUTDIR --seeds 1,2,3 [--only "mixup 0.2;CutMix 1.0"] [--base "--preset quick"]
        [--data FOLDER]

A seed also decides which images are held out, so every lever is compared with the base of the same seed: the table has the mean
and the standard deviation of the validation accuracy of the exported model, and the mean difference with its standard error.
Trainings that are in OUTDIR already are not done again, so the script may be stopped and started. The test part is never read.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

LEVERS = {
    "base": "",
    "no mirrored images": "--flip 0",
    "no shift": "--shift 0",
    "shift by 2 pixels": "--shift 0.0715",
    "erasing 0.25": "--erasing 0.25",
    "erasing 0.5": "--erasing 0.5",
    "rotation by 10°": "--rotation 10",
    "zoom by 10 %": "--zoom 0.1",
    "mixup 0.2": "--mixup 0.2",
    "CutMix 1.0": "--cutmix 1.0",
    # Mixed images leave none out: 5 whole epochs are as many steps as 7 of `quick`.
    "mixup 0.2 for 5 whole epochs": "--mixup 0.2 --epochs 5",
    "CutMix 1.0 for 5 whole epochs": "--cutmix 1.0 --epochs 5",
    "weights averaged over an epoch": "--average-weights 1",
    "label smoothing 0.05": "--label-smoothing 0.05",
    "label smoothing 0.1": "--label-smoothing 0.1",
    "batch 64, rate 0.05": "--batch-size 64 --learning-rate 0.05",
    "batch 256, rate 0.2": "--batch-size 256 --learning-rate 0.2",
    "rate 0.05": "--learning-rate 0.05",
    "rate 0.2": "--learning-rate 0.2",
    "warm-up of 0.15": "--warmup 0.15",
    "cosine": "--schedule cosine",
    "weight decay 0.001": "--weight-decay 0.001",
    "AdamW": "--optimizer adamw --learning-rate 0.004",
    "no mirror averaging": "--mirror-averaging false",
    # Each about as long as 7 epochs of `quick`.
    "no easy images left out for 5 epochs": "--prune 0 --epochs 5",
    "resnet": "--network resnet",
    "full size for longer for 3 epochs": "--stages 32,32:64,64:128,128 --epochs 3",
    "1.5 times as wide for 3 epochs": "--stages 48:48,96:96,192:192 --epochs 3",
    "0.75 times as wide for 10 epochs": "--stages 24:24,48:48,96:96 --epochs 10",
    # As long as 7 epochs of `quick`. Needs images that are files (--data): raw pixels are taken as they are.
    "6 epochs of 20 pixels, then 4 of 28": ["--size 20 --epochs 6", "--size 28 --epochs 4 --learning-rate 0.05"],
}


def train(args, out, lever, seed):
    """The exported model's validation accuracy and the seconds of the training, or of several that go on from each other."""
    seconds = out / "seconds.txt"
    trainings = [lever] if isinstance(lever, str) else lever
    folders = [out.with_name(f"{out.name}.{number}") for number in range(1, len(trainings))] + [out]
    if not seconds.exists():
        started = time.monotonic()
        start = []
        for options, folder in zip(trainings, folders):
            options = shlex.split(args.base) + shlex.split(options) + start
            command = [args.program, "train", args.data, "--out", str(folder), "--seed", str(seed), "--overwrite", *options]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
            if done.returncode != 0:
                sys.exit(f"{shlex.join(command)}\n{done.stderr}")
            start = ["--start-from", str(folder / "model.onnx")]
        seconds.write_text(f"{time.monotonic() - started:.1f}\n")
    return json.loads((out / "metrics.json").read_text())["accuracy"], float(seconds.read_text())


def spread(values):
    return statistics.stdev(values) if len(values) > 1 else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--only", help="names of levers, with semicolons between them; the base is always among them")
    parser.add_argument("--base", default="--preset quick")
    parser.add_argument("--data", default="fashion-mnist")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    # Raw pixels have one size.
    usual = [name for name, lever in LEVERS.items() if isinstance(lever, str) or args.data != "fashion-mnist"]
    names = ["base", *args.only.split(";")] if args.only else usual
    unknown = [name for name in names if name not in LEVERS]
    if unknown:
        parser.error(f"no lever {unknown[0]!r}; there are: {', '.join(LEVERS)}")

    results = {}
    for seed in seeds:
        for name in names:
            folder = args.out / f"{name.replace(' ', '-').replace(',', '')}.{seed}"
            results[name, seed] = train(args, folder, LEVERS[name], seed)
            print(f"{name}, seed {seed}: {results[name, seed][0]:.4f}", file=sys.stderr, flush=True)

    print("| change | validation accuracy | difference | seconds |\n|---|---|---|---|")
    for name in names:
        accuracies = [results[name, seed][0] for seed in seeds]
        differences = [results[name, seed][0] - results["base", seed][0] for seed in seeds]
        error = spread(differences) / len(seeds) ** 0.5
        seconds = statistics.median(results[name, seed][1] for seed in seeds)
        difference = "" if name == "base" else f"{statistics.mean(differences):+.4f} ± {error:.4f}"
        print(f"| {name} | {statistics.mean(accuracies):.4f} ± {spread(accuracies):.4f} | {difference} | {seconds:.0f} |")


if __name__ == "__main__":
    main()

"""Kills `catalog train` at random moments, resumes it, and compares the model with that of a run that was left alone.

    python3 scripts/faults/kill_train.py target/release/catalog --kills 20

Two ways: so many runs that are each killed once and resumed, and one run that is killed again and again until it comes to its
end. The network has everything that has a state: Adam's moments, batch statistics, dropout, augmentation, the losses of the images;
some moments fall into a checkpoint being written. `--data` takes another data set than noisy bright halves; options behind
`--` are added to the run's.
"""

import argparse
import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDE = 28
RUN = [
    "--network", "seed", "--filters", "8,16", "--dense-units", "32", "--batch-norm", "--dropout", "0.4",
    "--optimizer", "adamw", "--prune", "0.5", "--rotation", "10", "--batch-size", "16", "--epochs", "6",
    "--checkpoint-minutes", "0.003",
]
# Columns of history.csv that no two runs share.
TIMES = {"seconds", "images_per_second"}


def write_data(path, images):
    """A CSV of 785 columns: which half of a noisy image is bright."""
    noise = random.Random(1)
    bright = [lambda x, y: x < SIDE // 2, lambda x, y: x >= SIDE // 2, lambda x, y: y < SIDE // 2, lambda x, y: y >= SIDE // 2]
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        for number in range(images):
            label = number % 4
            level = lambda x, y: (140 if bright[label](x, y) else 70) + noise.randrange(100)
            rows.writerow([label] + [level(x, y) for y in range(SIDE) for x in range(SIDE)])


class Bench:
    def __init__(self, program, data, images, more):
        self.program = str(Path(program).resolve())
        self.folder = Path(tempfile.mkdtemp(prefix="catalog-faults-"))
        self.data = data
        if data is None:
            self.data = str(self.folder / "train.csv")
            write_data(self.data, images)
        self.more = more
        self.problems = []

    def start(self, out, log):
        command = [self.program, "train", self.data, "--out", str(out), "--resume", *RUN, *self.more]
        return subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ, CATALOG_OFFLINE="1"))

    def run(self, out, seconds=None):
        """Runs until the end, or until a kill after so many seconds; whether the run was killed, and what it said."""
        with tempfile.TemporaryFile() as log:
            child = self.start(out, log)
            try:
                child.wait(timeout=seconds)
                killed = False
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                killed = True
            log.seek(0)
            said = log.read().decode(errors="replace")
        if not killed and child.returncode != 0:
            self.problems.append(f"{out.name}: ended with {child.returncode}: {said[-300:]}")
        return killed, said

    def check(self, out, expected):
        """The finished run in `out` is `expected`, and nothing is left of its stops."""
        try:
            if (out / "model.onnx").read_bytes() != (expected / "model.onnx").read_bytes():
                self.problems.append(f"{out.name}: another model")
            if history(out) != history(expected):
                self.problems.append(f"{out.name}: another history")
        except OSError as error:
            self.problems.append(f"{out.name}: {error}")
        left = [file.name for file in out.iterdir() if "checkpoint" in file.name or file.name.endswith(".tmp")]
        if left:
            self.problems.append(f"{out.name}: left behind: {left}")
        shutil.rmtree(out)


def history(out):
    with open(out / "history.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMES} for row in csv.DictReader(file)]


def where(said):
    """The line that says where a run goes on."""
    return next((line for line in said.splitlines() if line.startswith("continuing")), "begins anew")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--data")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("more", nargs="*")
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    bench = Bench(arguments.program, arguments.data, arguments.images, arguments.more)
    whole = bench.folder / "whole"
    started = time.monotonic()
    bench.run(whole)
    length = time.monotonic() - started
    print(f"a run takes {length:.1f} s", flush=True)

    kills = 0
    while kills < arguments.kills:
        out = bench.folder / f"killed-{kills}"
        moment = moments.uniform(0, length)
        killed, _ = bench.run(out, moment)
        if killed:
            kills += 1
            _, said = bench.run(out)
            print(f"killed after {moment:.2f} s: {where(said)}", flush=True)
        bench.check(out, whole)

    out, chain = bench.folder / "again-and-again", 0
    while bench.run(out, moments.uniform(0.1, 0.6) * length)[0]:
        chain += 1
        # A machine that became slower might not reach a checkpoint in that time.
        length *= 1.05
    bench.check(out, whole)

    print(f"{kills} runs killed once and one {chain} times, {len(bench.problems)} problems")
    for problem in bench.problems:
        print(" ", problem)
    shutil.rmtree(bench.folder)
    return 1 if bench.problems else 0


if __name__ == "__main__":
    sys.exit(main())

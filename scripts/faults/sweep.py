"""Ends or disturbs `catalog classify` at every system call, and checks that nothing is lost.

    python3 scripts/faults/sweep.py kill    target/release/catalog     SIGKILL at the Nth call, N = 1, 2, 3, …
    python3 scripts/faults/sweep.py errors  target/release/catalog     the Nth call fails, once and from then on
    python3 scripts/faults/sweep.py random  target/release/catalog     SIGKILL at random times

After each fault the labels have to be the old ones or the new ones, whole; then the same command is run again and has to
end with the bytes of an undisturbed run. Needs strace (`apt-get install strace`) for the first two.
"""

import argparse
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

OLD = b"old labels\n"
KILL_CALLS = ["write", "fsync", "fdatasync", "openat", "rename", "ftruncate"]
ERRORS = [
    ("read", "EIO"),
    ("write", "ENOSPC"),
    ("fsync,fdatasync", "EIO"),
    ("rename,renameat,renameat2", "EIO"),
    ("openat", "EMFILE"),
    ("getdents64", "EIO"),
    ("mkdir,mkdirat", "ENOSPC"),
]


def png(seed):
    """A grey 8 × 8 PNG of noise."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(8) for _ in range(8))
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


class Bench:
    def __init__(self, program, images):
        self.program = str(Path(program).resolve())
        self.folder = Path(tempfile.mkdtemp(prefix="catalog-faults-"))
        photos = self.folder / "photos"
        photos.mkdir()
        for number in range(images):
            (photos / f"{number:04}.png").write_bytes(png(number))
        (photos / "none.jpg").write_bytes(b"")
        self.points = self.fired = 0
        self.problems = []
        self.clear()
        assert self.run([]).returncode == 3
        self.expected = (self.folder / "labels.csv").read_bytes()

    def command(self):
        # strace counts the calls of each thread by itself: one that reads and one that decodes make every point another one.
        threads = ["--jobs", "1", "--readers", "1"]
        return [self.program, "classify", "photos", "--out", "labels.csv", "--batch-size", "4", *threads]

    def run(self, prefix):
        environment = dict(os.environ, CATALOG_OFFLINE="1")
        return subprocess.run(
            prefix + self.command(), cwd=self.folder, env=environment, capture_output=True, timeout=120
        )

    def clear(self):
        shutil.rmtree(self.folder / "labels.csv.state", ignore_errors=True)
        for file in self.folder.glob(".labels*"):
            file.unlink()
        (self.folder / "labels.csv").write_bytes(OLD)

    def check(self, what, disturbed):
        """The labels are whole, nothing panicked, and the same command ends as if nothing had been."""
        self.points += 1
        labels = self.folder / "labels.csv"
        if labels.read_bytes() not in (OLD, self.expected) and disturbed.returncode not in (0, 3):
            self.problems.append(f"{what}: partial labels")
        if b"panicked" in disturbed.stderr or disturbed.returncode == 101:
            self.problems.append(f"{what}: panic: {disturbed.stderr.decode(errors='replace')[-300:]}")
        again = self.run([])
        if again.returncode != 3:
            self.problems.append(f"{what}: the next run ended with {again.returncode}: {again.stderr.decode(errors='replace')[-300:]}")
        elif labels.read_bytes() != self.expected:
            self.problems.append(f"{what}: the next run gave other bytes")
        if list(self.folder.glob(".labels*.tmp")):
            self.problems.append(f"{what}: a temporary file was left")

    def report(self):
        print(f"{self.points} faults, {self.fired} of them took effect, {len(self.problems)} problems")
        for problem in self.problems:
            print(" ", problem)
        shutil.rmtree(self.folder)
        return 1 if self.problems else 0


def strace(calls, inject, log="/dev/null"):
    return ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={calls}", "-e", f"inject={calls}:{inject}"]


def kill(bench, points):
    for call in KILL_CALLS:
        for number in range(1, points + 1):
            bench.clear()
            disturbed = bench.run(strace(call, f"signal=KILL:when={number}"))
            if disturbed.returncode == 3:
                print(f"{call}: {number - 1} points", flush=True)
                break
            bench.fired += 1
            bench.check(f"kill at {call} {number}", disturbed)


def errors(bench, points):
    log = bench.folder / "strace.txt"
    for calls, error in ERRORS:
        for sticky in ["", "+"]:
            fired = 0
            for number in range(1, points + 1):
                bench.clear()
                disturbed = bench.run(strace(calls, f"error={error}:when={number}{sticky}", log))
                # A point past the last call disturbs nothing: it does not count, and none after it can.
                if b"(INJECTED)" not in log.read_bytes():
                    break
                fired += 1
                bench.check(f"{error} at {calls} {number}{sticky}", disturbed)
            bench.fired += fired
            print(f"{calls} {error}{' and on' if sticky else ''}: {fired} points", flush=True)


def randomly(bench, rounds):
    start = time.monotonic()
    bench.clear()
    bench.run([])
    whole = time.monotonic() - start
    moments = random.Random(7)
    for number in range(rounds):
        bench.clear()
        # Up to three kills in a row before the run that may end.
        for _ in range(moments.randint(1, 3)):
            wait = moments.uniform(0, whole)
            disturbed = bench.run(["timeout", "-s", "KILL", f"{wait:.3f}"])
        # `timeout` ends itself as it ends its child.
        bench.fired += disturbed.returncode == -signal.SIGKILL
        bench.check(f"kill {number} after {wait:.3f} s", disturbed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kill", "errors", "random"])
    parser.add_argument("program")
    parser.add_argument("--points", type=int, help="calls of each kind, or rounds")
    parser.add_argument("--images", type=int, default=40)
    options = parser.parse_args()
    if options.what != "random":
        probe = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True) if shutil.which("strace") else None
        if probe is None or probe.returncode != 0:
            print("SKIPPED: strace is not there or not permitted to trace")
            return 0
    bench = Bench(options.program, options.images)
    run, points = {"kill": (kill, 100_000), "errors": (errors, 100), "random": (randomly, 200)}[options.what]
    run(bench, options.points or points)
    return bench.report()


if __name__ == "__main__":
    sys.exit(main())

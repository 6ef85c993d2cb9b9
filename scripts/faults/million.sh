#!/usr/bin/env bash
# A folder of a million files: memory has to stay what it is for ten thousand, and a night with nothing new has to decode nothing.
#
#   scripts/faults/million.sh target/release/catalog [FILES]
#
# The files are hard links to a few pictures. Prints the seconds and the peak memory of each run; fails where one is not as promised.
set -euo pipefail
program=$(realpath "${1:?the program to test}")
files=${2:-1000000}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CATALOG_OFFLINE=1
python3 - "$program" "$files" "$folder" <<'PY'
import json, os, random, shutil, struct, subprocess, sys, time, zlib
from pathlib import Path

program, many, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
FEW = 10_000
PICTURES = 25


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture(number):
    noise = random.Random(number)
    rows = b"".join(b"\0" + noise.randbytes(8) for _ in range(8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def link(name, count):
    (folder / name).mkdir()
    pictures = folder / f"{name}-pictures"
    pictures.mkdir()
    source = None
    for number in range(count):
        # A file has at most 65,000 names on ext4.
        if source is None or number % (count // PICTURES) == 0:
            source = pictures / str(number)
            source.write_bytes(picture(number))
        os.link(source, folder / name / f"{number:07}.png")


def run(name, *options):
    """Seconds to the first row and to the end, and the report."""
    journal = folder / f"{name}.csv.state" / "running"
    command = [program, "classify", name, "--out", f"{name}.csv", "--quiet", *options]
    start, first = time.monotonic(), None
    process = subprocess.Popen(command, cwd=folder)
    while process.poll() is None:
        try:
            if first is None and journal.stat().st_size > 4096:
                first = time.monotonic() - start
        except FileNotFoundError:
            pass
        time.sleep(0.01)
    seconds = time.monotonic() - start
    assert process.returncode == 0, process.returncode
    report = json.loads((folder / f"{name}.csv.report.json").read_text())
    return first, seconds, report


def say(what, first, seconds, report):
    comparison = report["summary"]["comparison"]
    first = "" if first is None else f"first rows after {first:.1f} s, "
    print(f"{what}: {first}end after {seconds:.1f} s, peak {report['peak_memory_bytes'] / 2**20:.1f} MiB, {comparison}", flush=True)
    return report["peak_memory_bytes"]


# How many images are decoded at the peak is chance: the middle of three runs.
peaks = []
for name in ["few1", "few2", "few3"]:
    link(name, FEW)
    peaks.append(say(f"{FEW:,} files", *run(name)))
few = sorted(peaks)[1]
link("many", many)
first, seconds, report = run("many")
most = say(f"{many:,} files", first, seconds, report)
labels = folder / "many.csv"
before = labels.read_bytes()
assert before.count(b"\n") == many + 1
# Less is no growth.
assert most / few <= 1.10, f"peak memory is {most / few:.2f} times that of {FEW:,} files"

first, seconds, report = run("many")
say("a night with nothing new", first, seconds, report)
assert report["summary"]["comparison"]["reused"] == many and report["summary"]["comparison"]["new"] == 0
assert labels.read_bytes() == before

# As if it had been stopped between its last row and putting the labels in place.
state = folder / "many.csv.state"
os.rename(state / "finished", state / "running")
labels.unlink()
first, seconds, report = run("many")
say("resume of the finished run", first, seconds, report)
assert report["summary"]["comparison"]["continued"] == many
assert labels.read_bytes() == before
assert seconds < 10, "resume of the finished run took 10 s or more"
PY

#!/usr/bin/env python3
"""Peak memory of `catalog classify` over ever more photos, no two of the same content: it has to stay what it is.

    scripts/compare/memory.py --program target/release/catalog --photos DIR [--model FILE] [--counts N,N,…]

DIR holds JPEG photos; each file of a count is one of them with a comment of its own. Prints a Markdown table.
"""

import argparse
import json
import struct
import subprocess
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", type=Path, required=True)
parser.add_argument("--photos", type=Path, required=True)
parser.add_argument("--model", type=Path)
parser.add_argument("--counts", default="1000,10000,100000")
arguments = parser.parse_args()
program = arguments.program.resolve()
model = ["--model", str(arguments.model.resolve())] if arguments.model else []
photos = [path.read_bytes() for path in sorted(arguments.photos.rglob("*.jpg"))[:200]]
assert photos, f"no JPEG photos under {arguments.photos}"


def with_comment(photo, number):
    """The photo with a comment behind its first marker."""
    text = f"photo {number}".encode()
    return photo[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(text)) + text + photo[2:]


with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    images = folder / "images"
    made = 0
    print("| photos | peak MiB |\n|---:|---:|")
    for count in sorted(map(int, arguments.counts.split(","))):
        for number in range(made, count):
            place = images / f"{number // 1000:03}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:06}.jpg").write_bytes(with_comment(photos[number % len(photos)], number))
        made = max(made, count)
        labels = folder / f"{count}.csv"
        command = [program, "classify", images, "--out", labels, "--quiet", *model]
        subprocess.run(command, check=True)
        report = json.loads(Path(f"{labels}.report.json").read_text())
        rows = labels.read_bytes().count(b"\n") - 1
        assert rows == count, (rows, count)
        peak = report["peak_memory_bytes"] / 2**20
        print(f"| {count:,} | {peak:.1f} |", flush=True)

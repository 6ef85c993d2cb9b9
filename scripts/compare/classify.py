"""Times `catalog classify` and Python programs on the same folders with the same models, in turn; `classify.sh` builds and starts it."""

import argparse
import csv
import datetime
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zlib

from PIL import Image

import step

# Folder, model, eighths of a JPEG's size at which the others decode where they can, at which ours does, and the programs beside ours.
# Theirs just cover the input; ours keep twice its pixels.
CASES = {
    "small-28": ("many", "grey28", (1, 2), ["opencv", "pillow", "opencv-full", "torchvision"]),
    "large-28": ("large", "grey28", (1, 1), ["opencv", "pillow", "opencv-full", "torchvision"]),
    "png-28": ("png", "grey28", (8, 8), ["opencv-full", "pillow-full"]),
    "mixed-28": ("mixed", "grey28", (1, 2), ["opencv", "pillow"]),
    "small-224": ("small", "rgb224", (8, 8), ["opencv-full", "pillow-full", "torchvision"]),
    "large-224": ("large", "rgb224", (1, 2), ["opencv", "pillow", "opencv-full"]),
}
TITLES = {
    "catalog": "catalog",
    "opencv": "OpenCV, reduced decoding + ONNX Runtime",
    "opencv-full": "OpenCV, whole pictures + ONNX Runtime",
    "pillow": "Pillow, `draft` + ONNX Runtime",
    "pillow-full": "Pillow, whole pictures + ONNX Runtime",
    "torchvision": "torchvision + torch",
}
# So many small ones for the small model that starting up is a percent of a run.
MANY, SMALL, LARGE, PNG = 24_000, 6_000, 240, 1_500
# 44 and 124 million operations an image.
MODELS = {
    "grey28": ["--size", "28", "--colour", "grey", "--stages", "32,32:64,64:128", "--epochs", "3"],
    "rgb224": ["--size", "224", "--colour", "rgb", "--stages", "8:16:32:64:64", "--epochs", "2"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--bare-rates", type=pathlib.Path, required=True)
    parser.add_argument("--photos", type=pathlib.Path, required=True, help="folders of classes, with JPEGs of about 400×533 pixels")
    parser.add_argument("--work", type=pathlib.Path, help="keeps folders and models for the next time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--without", nargs="+", choices=TITLES, default=[], metavar="PROGRAM", help="programs to leave out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or pathlib.Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        print(f"{datetime.date.today()}, {step.processor()}, {len(os.sched_getaffinity(0))} cores; {arguments.rounds} runs of each program "
              f"in turn, medians; load average {os.getloadavg()[0]:.1f} at the start")
        for case in arguments.only:
            compare(case, arguments, work)


def compare(case, arguments, work):
    """Runs all programs of a case in turn and prints its table."""
    name, model_name, (eighths, our_eighths), peers = CASES[case]
    model = trained(model_name, arguments, work)
    folder = made(name, arguments.photos, work)
    count = sum(len(names) for _, _, names in os.walk(folder))
    peers = [program for program in peers if program not in arguments.without]
    measured = {program: [] for program in ["catalog", *peers]}
    bare = []
    for number in range(arguments.rounds):
        for program in measured:
            measured[program].append(run(program, folder, model, eighths, arguments, work, count))
            print(f"round {number + 1}, {case}, {program}: {measured[program][-1]['rate']:,.0f} images/s", file=sys.stderr)
        # Of whole pictures libjpeg is no floor: another decoder takes them.
        if name in ("many", "large") and our_eighths < 8:
            bare.append(bare_rates(folder, model, our_eighths, arguments))

    def median(program, figure):
        return statistics.median(result[figure] for result in measured[program])

    best = max(median(program, "rate") for program in peers)
    print(f"\n### {case}: {count:,} files\n")
    print("| program | images/s | range | best of the others = 1 | CPU ms an image | peak MiB | same label |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    ours = labels(work / "catalog.csv")
    for program, results in measured.items():
        rate, rates = median(program, "rate"), [result["rate"] for result in results]
        theirs = labels(work / f"{program}.csv")
        same = sum(theirs.get(path) == label for path, label in ours.items()) / len(ours)
        print(f"| {TITLES[program]} | {rate:,.0f} | {min(rates):,.0f}–{max(rates):,.0f} | {rate / best:.2f} | "
              f"{1e3 * median(program, 'cpu') / count:.2f} | {median(program, 'peak_mib'):,.0f} | {same:.4f} |")
    if bare:
        rates = {figure: statistics.median(result[figure] for result in bare) for figure in bare[0]}
        floor = rates["floor_per_second"]
        print(f"\nAll cores decode {rates['decoded_per_second']:,.0f} of these photos a second at {our_eighths}/8 of their size when they do nothing "
              f"else, fill the model's input from {rates['filled_per_second']:,.0f}, and the model takes {rates['inferred_per_second']:,.0f}. "
              f"Decoding and the model alone: {floor:,.0f} images/s; `catalog` reaches {median('catalog', 'rate') / floor:.2f} of it.")
    sys.stdout.flush()


def run(program, folder, model, eighths, arguments, work, count):
    """One run: images a second, CPU seconds, peak memory. Ours is timed with its start-up, the others without their imports."""
    out = work / f"{program}.csv"
    if program == "catalog":
        command = [arguments.program, "classify", folder, "--model", model, "--out", out, "--overwrite", "--quiet"]
    else:
        decoder, _, full = program.partition("-")
        reduction = 1 if full or decoder == "torchvision" else 8 // eighths
        script = pathlib.Path(__file__).with_name("classify_peer.py")
        command = [sys.executable, script, folder, "--model", model, "--decoder", decoder, "--reduction", str(reduction), "--out", out]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_WAIT_POLICY": "passive"})
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{program} ended with {process.returncode}")
    if program != "catalog":
        seconds = json.loads(said.splitlines()[-1])["seconds"]
    return {"rate": count / seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def bare_rates(folder, model, eighths, arguments):
    command = [arguments.bare_rates, "--model", model, "--photos", folder, "--eighths", str(eighths), "--rounds", "3"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def labels(path):
    """Label of each file, by the last two parts of its path."""
    with open(path, newline="") as file:
        return {tuple(row["path"].split("/")[-2:]): row["label"] for row in csv.DictReader(file)}


def trained(name, arguments, work):
    """A model that learnt a little: labels that vary with the pixels."""
    folder = work / name
    if not (folder / "model.onnx").exists():
        command = [arguments.program, "train", arguments.photos, "--out", folder, "--network", "vgg", *MODELS[name],
                   "--batch-norm", "false", "--mirror-averaging", "false", "--learning-rate", "0.03", "--overwrite", "--quiet"]
        subprocess.run(command, check=True)
    return folder / "model.onnx"


def made(name, photos, work):
    """The folder of a case. No two files are the same, or one would be taken for the other."""
    folder = work / name
    if folder.exists():
        return folder
    sources = sorted(photos.rglob("*.jpg"))
    if not sources:
        sys.exit(f"{photos} has no *.jpg")
    unfinished = work / f"{name}.unfinished"
    for part in range(20):
        (unfinished / f"{part:02}").mkdir(parents=True, exist_ok=True)

    def write(number, suffix, content):
        (unfinished / f"{number % 20:02}" / f"{number:06}.{suffix}").write_bytes(content)

    if name in ("many", "small", "mixed"):
        for number in range({"many": MANY, "small": SMALL, "mixed": SMALL // 4}[name]):
            write(number, "jpg", with_comment(sources[number % len(sources)].read_bytes(), number))
    if name in ("large", "mixed"):
        for number in range(LARGE if name == "large" else LARGE // 4):
            with Image.open(sources[number * 7 % len(sources)]) as image:
                size = (2000, 3000) if image.height >= image.width else (3000, 2000)
                image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(unfinished / "large.tmp", "JPEG", quality=85)
            write(SMALL + number, "jpg", with_comment((unfinished / "large.tmp").read_bytes(), number))
            (unfinished / "large.tmp").unlink()
    if name in ("png", "mixed"):
        for number in range(PNG if name == "png" else PNG // 4):
            with Image.open(sources[number * 3 % len(sources)]) as image:
                image.save(unfinished / "png.tmp", "PNG")
            write(2 * SMALL + number, "png", with_text((unfinished / "png.tmp").read_bytes(), number))
            (unfinished / "png.tmp").unlink()
    unfinished.rename(folder)
    return folder


def with_comment(jpeg, number):
    """A JPEG with its number in a comment behind the first marker."""
    comment = f"{number:08}".encode()
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", 2 + len(comment)) + comment + jpeg[2:]


def with_text(png, number):
    """A PNG with its number in a text chunk behind the header."""
    content = b"tEXt" + b"Comment\0" + f"{number:08}".encode()
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return png[:33] + chunk + png[33:]


if __name__ == "__main__":
    main()

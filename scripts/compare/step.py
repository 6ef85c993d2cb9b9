"""Runs the program's benchmark of a training step and PyTorch's in turn, and prints their medians; `step.sh` builds and starts it."""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys

NETWORKS = ["vgg", "vgg-bn", "seed", "resnet"]
OURS = ["portable", "blocked"]
PYTORCH = {"default": "default layout", "channels_last": "channels_last", "bf16": "channels_last, bf16 autocast"}
YARDSTICK = "channels_last"
# Processors without any of these compute bfloat16 in software, a hundred times slower: one short run says so.
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--benchmark", required=True, help="the built benchmark")
    parser.add_argument("--rounds", type=int, default=5, help="how often each variant is run")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each run")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--side", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=[*OURS, *PYTORCH], default=[*OURS, *PYTORCH], metavar="VARIANT")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print(f"{datetime.date.today()}, {processor()}, {cores} cores; batch {arguments.batch}, {arguments.rounds} runs of "
          f"{arguments.steps} steps in turn, median and range of the runs' medians; load average {os.getloadavg()[0]:.1f} at the start\n")
    print("| network | variant | ms a step | range | images/s | speed, PyTorch channels_last = 1 | CPU seconds a step |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for network in arguments.networks:
        table(network, arguments)


def table(network, arguments):
    """Measures one network and prints its rows."""
    measured = {variant: [] for variant in arguments.only}
    setup = None
    for number in range(arguments.rounds):
        for variant in arguments.only:
            is_slow = variant == "bf16" and not BF16_FLAGS & processor_flags()
            if is_slow and number > 0:
                continue
            try:
                if variant in OURS:
                    result = ours(network, variant, arguments)
                    setup = result["setup"]
                else:
                    setup = setup or ours(network, "portable", arguments)["setup"]
                    result = pytorch(setup, variant, arguments, steps=2 if is_slow else arguments.steps)
            except subprocess.CalledProcessError as error:
                # Not every machine has every variant; the others are worth having.
                print(f"{network}, {variant}: {' '.join(error.stderr.split())[-300:]}", file=sys.stderr)
                continue
            measured[variant].append(result)
            print(f"round {number + 1}, {network}, {variant}: {result['median_ms']:.1f} ms", file=sys.stderr)

    def median(variant, figure):
        return statistics.median(result[figure] for result in measured[variant])

    yardstick = median(YARDSTICK, "median_ms") if measured.get(YARDSTICK) else None
    for variant, results in measured.items():
        if not results:
            continue
        title = f"catalog: {results[0]['formulation']}" if variant in OURS else f"PyTorch {results[0]['torch']}, {PYTORCH[variant]}"
        if results[0]["steps"] < arguments.steps:
            title += f", in software, 1 run of {results[0]['steps']} steps"
        milliseconds = median(variant, "median_ms")
        runs = [result["median_ms"] for result in results]
        speed = f"{yardstick / milliseconds:.2f}" if yardstick else "–"
        print(f"| {network} | {title} | {milliseconds:.1f} | {min(runs):.1f}–{max(runs):.1f} | {arguments.batch / milliseconds * 1e3:,.0f} | {speed} | "
              f"{median(variant, 'cpu_seconds_per_step'):.3f} |", flush=True)


def ours(network, formulation, arguments):
    return run([arguments.benchmark, "--architecture", network, "--formulation", formulation, "--side", str(arguments.side),
                "--channels", str(arguments.channels), "--batch", str(arguments.batch), "--warmup", str(arguments.warmup),
                "--steps", str(arguments.steps)])


def pytorch(setup, variant, arguments, steps):
    script = pathlib.Path(__file__).with_name("step_pytorch.py")
    return run([sys.executable, str(script), "--setup", json.dumps(setup), "--variant", variant, "--warmup",
                str(min(arguments.warmup, steps)), "--steps", str(steps)])


def run(command):
    """Runs a program that prints a line of JSON."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "RUST_BACKTRACE": "0"}
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(finished.stdout)


def processor():
    """The processor's name, where the system says it."""
    return processor_field("model name") or "unknown processor"


def processor_flags():
    """What the processor can do, by the names that Linux has for it; other systems say nothing."""
    return set((processor_field("flags") or processor_field("Features")).split())


def processor_field(name):
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


if __name__ == "__main__":
    main()

"""Where a training step goes: time per operator, from the profile that the program's benchmark writes.

    cargo bench --bench training_step -- --architecture vgg-bn --profile step.json
    python3 scripts/compare/profile_step.py step.json [--skip 5] [--nodes]

Prints a Markdown table: milliseconds a step and share, summed over all nodes of an operator, or with --nodes for each node. The first
steps are left out. What an operator's threads do side by side counts once; the shares are of the time inside operators.
"""

import argparse
import collections
import json
import pathlib


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", type=pathlib.Path)
    parser.add_argument("--skip", type=int, default=5, help="steps to leave out at the start")
    parser.add_argument("--nodes", action="store_true", help="a row for each node")
    parser.add_argument("--top", type=int, default=40, help="at most so many rows")
    arguments = parser.parse_args()
    events = json.loads(arguments.profile.read_text())
    runs = sorted((event for event in events if event.get("name") == "model_run"), key=lambda event: event["ts"])
    runs = runs[arguments.skip :]
    if not runs:
        raise SystemExit(f"{arguments.profile}: no more than {arguments.skip} steps")
    start = runs[0]["ts"]

    totals, calls = collections.Counter(), collections.Counter()
    for event in events:
        if event.get("cat") != "Node" or event["ts"] < start or not event["name"].endswith("_kernel_time"):
            continue
        operator = event["args"]["op_name"]
        row = f"{operator} {event['name'].removesuffix('_kernel_time')}" if arguments.nodes else operator
        totals[row] += event["dur"] / 1e3
        calls[row] += 1
    inside = sum(totals.values())
    wall = sum(run["dur"] for run in runs) / 1e3

    print("| operator | calls a step | ms a step | share |")
    print("|---|---:|---:|---:|")
    for row, total in totals.most_common(arguments.top):
        print(f"| {row} | {calls[row] / len(runs):g} | {total / len(runs):.2f} | {100 * total / inside:.1f} % |")
    print(f"| all | {sum(calls.values()) / len(runs):g} | {inside / len(runs):.2f} | 100 % |")
    print(f"\n{len(runs)} steps; {wall / len(runs):.2f} ms a step, of which {(wall - inside) / len(runs):.2f} between operators")


if __name__ == "__main__":
    main()

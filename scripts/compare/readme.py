"""Writes the README's table of classification speed from the one in docs/benchmarks.md, so that the two cannot differ.

    python3 scripts/compare/readme.py            writes it
    python3 scripts/compare/readme.py --check    fails where it is another one
"""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- speed: written by scripts/compare/readme.py -->", "<!-- speed: end -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if arguments.check and new != text:
        sys.exit("the README has another table than docs/benchmarks.md: run scripts/compare/readme.py")
    if not arguments.check:
        readme.write_text(new)


def table():
    """Ours and the fastest of the others, for each kind of files."""
    section = (ROOT / "docs/benchmarks.md").read_text().split("## Classification, beside Python programs\n")[1]
    where = re.search(r"(\d{4}-\d\d-\d\d), (.*?), a shared machine", section, re.DOTALL)
    lines = [
        f"{where[1]}, {where[2]}, images/s, medians of five runs in turn:",
        "",
        "| files, model | catalog | fastest of the Python programs | ratio | peak MiB, theirs |",
        "|---|---:|---|---:|---:|",
    ]
    rows = re.findall(r"^\|(.*)\|$", section.split("\n\n|")[1].split("\n\n")[0], re.MULTILINE)
    ours, others = None, []
    for row in [*rows, None]:
        cells = row and [cell.strip() for cell in row.split("|")]
        if ours and (row is None or cells[0]):
            best = max(others, key=lambda other: number(other[2]))
            lines.append(f"| {ours[0]} | {ours[2]} | {best[1]}: {best[2]} | {ours[4]} | {ours[6]}, {best[6]} |")
            ours, others = None, []
        if cells and cells[1] == "**catalog**":
            ours = cells
        elif cells and ours:
            others.append(cells)
    return "\n".join(lines)


def number(text):
    return float(text.replace(",", ""))


if __name__ == "__main__":
    main()

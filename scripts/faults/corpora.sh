#!/usr/bin/env bash
# Classifies the test images of pillow, libpng, exiv2, libheif, giflib and libjpeg-turbo — many of them made to hurt — and checks
# that nothing escapes. Fetches Debian's source packages (Debian or Ubuntu, with network).
#
#   scripts/faults/corpora.sh target/release/catalog [FOLDER [MODEL]]
#
# FOLDER keeps what was fetched. MODEL is one to take instead of that in the program, such as one for which large JPEGs are decoded at a
# fraction of their size. Without apt the check is skipped, and says so.
set -euo pipefail
program=$(realpath "${1:?the program to test}")
folder=${2:-$(mktemp -d)}
model=(${3:+--model "$(realpath "$3")"})
command -v apt-get >/dev/null || { echo "SKIPPED: apt-get is not there"; exit 0; }
mkdir -p "$folder"/{lists/partial,cache/archives/partial,sources,corpus}
cd "$folder"
if [ ! -e fetched ]; then
    # The system's own sources, asked for source packages; nothing of the system is changed.
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -oE '(https?|file)://[^ ]*/(debian|ubuntu)/?( |$)' | head -1) || true
    [ -n "$mirror" ] || { echo "SKIPPED: no mirror in the sources of apt"; exit 0; }
    echo "deb-src $mirror $release main" >sources.list
    options=(-o "Dir::Etc::sourcelist=$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache")
    apt-get -qq "${options[@]}" update
    (cd sources && apt-get -qq "${options[@]}" source --download-only pillow libpng1.6 exiv2 libheif giflib libjpeg-turbo)
    for archive in sources/*.orig.tar.*; do
        mkdir -p "corpus/$(basename "$archive" | cut -d_ -f1)"
        tar xf "$archive" -C "corpus/$(basename "$archive" | cut -d_ -f1)"
    done
    touch fetched
fi
code=0
timeout 600 "$program" classify corpus "${model[@]}" --out labels.csv --batch-size 1 --jobs 1 --overwrite --quiet || code=$?
python3 - "$code" <<'PY'
import csv, json, os, sys
files = sum(len(names) for _, _, names in os.walk("corpus"))
links = sum(os.path.islink(os.path.join(root, name)) for root, _, names in os.walk("corpus") for name in names)
report = json.load(open("labels.csv.report.json"))
summary = report["summary"]
with open("labels.csv", newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file, strict=True))
print(f"exit {sys.argv[1]}, {files} files, {len(rows)} rows, {summary['seconds']:.1f} s, "
      f"peak {report['peak_memory_bytes'] / 2**20:.0f} MiB, {summary['statuses']}")
assert sys.argv[1] == "3"
assert len(rows) == summary["found"] == sum(summary["statuses"].values())
assert files - links <= len(rows) + sum(summary["skipped"].values()) <= files
assert report["peak_memory_bytes"] < 2**30
PY

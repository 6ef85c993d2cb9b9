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
# Each source package for itself: what it holds, how it ended and how long it took.
python3 - "$program" "${model[@]}" <<'PY'
import csv, json, os, subprocess, sys

# Rows and `ok` rows of what Debian 12 has of each, so that nothing goes missing unnoticed; later releases have more.
AT_LEAST = {
    "exiv2": (1400, 170), "giflib": (160, 36), "libheif": (220, 0), "libjpeg-turbo": (500, 30), "libpng1.6": (490, 170),
    "pillow": (1500, 600),
}
total, peak = 0, 0
assert sorted(os.listdir("corpus")) == sorted(AT_LEAST), f"not the corpora expected: {sorted(os.listdir('corpus'))}"
for name in sorted(AT_LEAST):
    folder = f"corpus/{name}"
    options = [*sys.argv[2:], "--out", f"{name}.csv", "--batch-size", "1", "--jobs", "1", "--overwrite", "--quiet"]
    process = subprocess.Popen(["timeout", "600", sys.argv[1], "classify", folder, *options])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = usage.ru_utime + usage.ru_stime
    # 3: published, with rows that are not ok. A death would be 101, 134, 137 or 139; a hang 124.
    assert os.waitstatus_to_exitcode(status) == 3, f"{name}: ended with {os.waitstatus_to_exitcode(status)}"
    files = sum(len(names) for _, _, names in os.walk(folder))
    links = sum(os.path.islink(os.path.join(root, file)) for root, _, names in os.walk(folder) for file in names)
    report = json.load(open(f"{name}.csv.report.json"))
    summary = report["summary"]
    with open(f"{name}.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    statuses = {status: count for status, count in summary["statuses"].items() if count}
    print(f"{name}: {files} files, {len(rows)} rows, {seconds:.1f} s of the processor, "
          f"peak {report['peak_memory_bytes'] / 2**20:.0f} MiB, {statuses}")
    assert len(rows) == summary["found"] == sum(statuses.values()), name
    assert files - links <= len(rows) + sum(summary["skipped"].values()) <= files, name
    assert len(rows) >= AT_LEAST[name][0] and statuses.get("ok", 0) >= AT_LEAST[name][1], name
    # One file after the other: no single one can have taken longer than all of them. The processor's time, for a busy machine.
    assert seconds < 5, f"{name}: {seconds:.1f} s, so one file may have taken over 5 s"
    wrong = [row["path"] for row in rows if "planar" in row["path"] and row["status"] == "corrupt"]
    assert not wrong, f"legal TIFFs called corrupt: {wrong}"
    total, peak = total + len(rows), max(peak, report["peak_memory_bytes"])
print(f"{total} rows, peak {peak / 2**20:.0f} MiB, 0 deaths")
assert peak < 2**30
PY

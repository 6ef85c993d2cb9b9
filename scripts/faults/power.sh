#!/usr/bin/env bash
# Power loss: what a disk holds at some moment is all there is, and nothing that was only in memory.
#
#   scripts/faults/power.sh target/release/catalog [MOMENTS]
#
# `catalog classify` writes its labels to an ext4 file system in a file. While it stands still for a moment, that file is copied: the
# disk, had the power gone. Each copy is then mounted: the labels have to be the old ones or the new ones, whole, and the same command
# has to end with the bytes of an undisturbed run. Needs root, mkfs.ext4 and mounting; without them it is skipped, and says so.
set -euo pipefail
program=$(realpath "${1:?the program to test}")
moments=${2:-20}
[ "$(id -u)" = 0 ] || { echo "SKIPPED: only root may mount"; exit 0; }
command -v mkfs.ext4 >/dev/null || { echo "SKIPPED: mkfs.ext4 is not there"; exit 0; }
folder=$(mktemp -d)
cleanup() {
    umount "$folder/disk" 2>/dev/null || true
    rm -rf "$folder"
}
trap cleanup EXIT
cd "$folder"
export CATALOG_OFFLINE=1
mkdir disk photos
truncate -s 32M whole.img
mkfs.ext4 -q -F whole.img
mount -o loop whole.img disk 2>said.txt || { echo "SKIPPED: mounting is not permitted: $(head -1 said.txt)"; exit 0; }
python3 - <<'PY'
import random, struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
for number in range(2000):
    noise = random.Random(number)
    rows = b"".join(b"\0" + noise.randbytes(8) for _ in range(8))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    open(f"photos/{number:04}.png", "wb").write(png + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
PY
classify() { "$program" classify photos --out disk/labels.csv --batch-size 4 --jobs 1 --quiet "$@"; }
"$program" classify photos --out expected.csv --batch-size 4 --jobs 1 --quiet
echo old >disk/labels.csv
sync -f disk

classify 2>said.txt &
run=$!
copies=0
while [ "$copies" -lt "$moments" ] && kill -STOP "$run" 2>/dev/null; do
    cp --sparse=always whole.img "$copies.img"
    copies=$((copies + 1))
    kill -CONT "$run"
    sleep 0.05
done
code=0
wait "$run" || code=$?
[ "$code" = 0 ] || { echo "the run itself ended with $code: $(cat said.txt)"; exit 1; }
# And right after its end, with nothing flushed by anybody else.
cp --sparse=always whole.img "$copies.img"
umount disk

old=0 new=0 continued=0 problems=0
for image in $(seq 0 "$copies"); do
    mount -o loop "$image.img" disk
    if cmp -s disk/labels.csv expected.csv; then
        new=$((new + 1))
    elif [ "$(cat disk/labels.csv)" = old ]; then
        old=$((old + 1))
    else
        problems=$((problems + 1)) && echo "moment $image: partial labels"
    fi
    classify 2>said.txt || { problems=$((problems + 1)) && echo "moment $image: the next run ended with $?: $(cat said.txt)"; }
    done_before=$(python3 -c 'import json; print(json.load(open("disk/labels.csv.report.json"))["summary"]["comparison"]["continued"])')
    [ "$done_before" = 0 ] || continued=$((continued + 1))
    cmp -s disk/labels.csv expected.csv || { problems=$((problems + 1)) && echo "moment $image: the next run gave other bytes"; }
    umount disk
done
[ "$new" -ge 1 ] || { problems=$((problems + 1)) && echo "the labels of the finished run were not on the disk"; }
echo "$((copies + 1)) losses of power: $old times the old labels, $new times the new ones; $continued times work went on; $problems problems"
[ "$problems" = 0 ]

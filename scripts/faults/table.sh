#!/usr/bin/env bash
# One line a fault of docs/reliability.md: injects it, and checks how `catalog classify` ends.
#
#   scripts/faults/table.sh target/release/catalog
#
# What this machine does not permit is skipped, and says so. Prints a table; fails if a line does.
set -u
program=$(realpath "${1:?the program to test}")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export CATALOG_OFFLINE=1
# Every folder in it is one more place where the system looks for the program's libraries, and faults are counted by calls.
unset LD_LIBRARY_PATH
failed=0

mkdir -p photos/a photos/b
python3 - <<'PY'
import random, struct, zlib
def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
for number in range(60):
    noise = random.Random(number)
    rows = b"".join(b"\0" + noise.randbytes(8) for _ in range(8))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    open(f"photos/{'ab'[number % 2]}/{number:02}.png", "wb").write(png)
PY

classify() { "$@" "$program" classify photos --out labels.csv --quiet; }
fresh() { rm -rf labels.csv.state .labels*; echo old >labels.csv; }
fresh
classify env || exit 1
cp labels.csv expected.csv

# line NAME EXPECTED-EXIT EXPECTED-LABELS(old|whole|row:TEXT) COMMAND…
line() {
    local name=$1 code=$2 labels=$3 said got ok=yes
    shift 3
    "$@" 2>stderr.txt >stdout.txt
    got=$?
    said=$(grep -m1 -E '^(error|warning): ' stderr.txt | cut -c1-150)
    [ "$got" = "$code" ] || ok="no: exit $got, expected $code"
    grep -q panicked stderr.txt && ok="no: panic"
    case $labels in
    old) [ "$(cat labels.csv)" = old ] || ok="no: the old labels are gone" ;;
    whole) cmp -s labels.csv expected.csv || ok="no: other labels" ;;
    row:*)
        grep -q "${labels#row:}" labels.csv || ok="no: no row ${labels#row:}"
        # With --quiet a row says it.
        [ -n "$said" ] || said=$(grep -m1 "${labels#row:}" labels.csv)
        ;;
    esac
    # Whatever it was, the same command ends well afterwards.
    rm -rf photos/ddd*
    chmod 755 photos/b && chmod 644 photos/a/00.png
    classify env >/dev/null 2>&1 && cmp -s labels.csv expected.csv || ok="no: the next run differs"
    [ "$ok" = yes ] || failed=1
    echo "| $name | $got | $ok | ${said:-–} |"
    fresh
}
skip() { echo "| $1 | – | SKIPPED: $2 | – |"; }

echo "| fault | exit | as promised | what it says |"
echo "|---|---|---|---|"
fresh
if command -v strace >/dev/null && strace -qq -o /dev/null true 2>/dev/null; then
    journal=$PWD/labels.csv.state/running
    inject() { local spec=$1; shift; classify strace -f -qq -o /dev/null -e "trace=${spec%%:*}" -e "inject=$spec" "$@"; }
    line "read error on one file" 3 row:,read_error, inject read:error=EIO:when=1+ -P photos/a/00.png
    line "interrupted reads" 0 whole inject read:error=EINTR:when=20+20
    line "out of file descriptors (EMFILE)" 1 old inject openat:error=EMFILE:when=20+1
    line "folder cannot be listed (EIO)" 3 row:path inject getdents64:error=EIO:when=1+ -P photos/b
    # Of the journal only: a log that is full as well could not say so.
    mkdir -p "${journal%/*}"
    line "disk full on write" 1 old inject write:error=ENOSPC:when=2+ -P "$journal"
    line "everything full, the log as well" 1 old inject write:error=ENOSPC:when=2+
    line "fsync fails" 1 old inject fsync,fdatasync:error=EIO:when=1
    line "rename fails" 1 old inject rename,renameat,renameat2:error=EIO:when=1+
else
    skip "faults of system calls" "strace is not there or not permitted"
fi
line "limit of open files (prlimit)" 1 old classify prlimit --nofile=6
line "limit of file size (prlimit)" 1 old classify prlimit --fsize=512
line "log and output full" 0 whole bash -c "'$program' classify photos --out labels.csv >/dev/full 2>/dev/full"
line "log and output closed" 0 whole bash -c "'$program' classify photos --out labels.csv >&- 2>&-"
line "reader of the log goes away" 0 whole bash -c "set -o pipefail; '$program' classify photos --out labels.csv 2>&1 | head -c 1 >/dev/null"
# The program may be done before the signal comes; then it comes earlier.
stopped_by() {
    local wait got
    for wait in 0.2 0.1 0.05 0.02; do
        echo old >labels.csv && rm -rf labels.csv.state
        timeout --preserve-status -s "$1" "$wait" "$program" classify photos --out labels.csv && continue
        got=$?
        return $got
    done
}
for signal in TERM:143 INT:130 HUP:129; do
    line "SIG${signal%:*} at the start" "${signal#*:}" old stopped_by "${signal%:*}"
done
mkfifo photos/fifo.png && ln -s nowhere photos/broken.png && ln -s . photos/loop && ln -s /dev/zero photos/zero.png
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("photos/socket.png")'
line "FIFO, socket, device, broken link, loop of links" 0 whole timeout 60 "$program" classify photos --out labels.csv
rm photos/fifo.png photos/socket.png photos/broken.png photos/loop photos/zero.png
# Folders within folders, until no path reaches them any more.
python3 - <<'PY'
import os
os.chdir("photos")
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
PY
line "paths of more than 4,096 bytes" 3 row:./a/00.png, "$program" classify photos --out labels.csv
# The superuser may read and write everything; without these two capabilities it may not.
bound=()
[ "$(id -u)" != 0 ] || bound=(setpriv "--bounding-set=-dac_override,-dac_read_search" --)
if "${bound[@]}" true 2>/dev/null; then
    chmod 000 photos/b
    line "folder without permission" 3 row:./a/00.png, "${bound[@]}" "$program" classify photos --out labels.csv
    chmod 000 photos/a/00.png
    line "file without permission" 3 row:./a/00.png,,,unreadable, "${bound[@]}" "$program" classify photos --out labels.csv
    mkdir -p readonly && echo old >readonly/labels.csv && chmod 555 readonly
    line "output folder without permission to write" 1 old "${bound[@]}" "$program" classify photos --out readonly/labels.csv
else
    skip "folders and files without permission" "capabilities cannot be dropped"
fi
line "missing output folder" 1 old "$program" classify photos --out none/labels.csv
line "output inside the input" 1 old "$program" classify photos --out photos/labels.csv
mkdir -p other.csv.state && exec 9>other.csv.state/lock && flock 9
line "second run on the same output" 1 old "$program" classify photos --out other.csv
exec 9>&-
if [ "$(id -u)" = 0 ] && mkdir -p full && mount -t tmpfs -o size=64k tmpfs full 2>/dev/null; then
    head -c 60K /dev/zero >full/ballast
    line "full file system (tmpfs)" 1 old "$program" classify photos --out full/labels.csv
    umount full
    mount -t tmpfs -o nr_inodes=2 tmpfs full && echo old >full/labels.csv
    line "no inode left (tmpfs)" 1 old "$program" classify photos --out full/labels.csv
    [ "$(cat full/labels.csv)" = old ] || { echo "the old labels are gone" && failed=1; }
    umount full
else
    skip "full file system (tmpfs)" "mounting is not permitted"
fi
exit $failed

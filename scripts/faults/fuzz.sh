#!/usr/bin/env bash
# Feeds any bytes to everything that reads a file from elsewhere, and fails at the first that panics, hangs or takes too much.
#
#   scripts/faults/fuzz.sh target/release/catalog [SECONDS [FOLDER]]
#
# Each target of pipeline/fuzz and fuzz runs for SECONDS (600), from small files made here, from what PROGRAM writes, and from the
# files of up to 64 KiB in FOLDER, such as the images of corpora.sh. TARGETS="decode idx" runs these alone. What is found stays in
# target/fuzz between runs. libjpeg is watched as well where clang is installed. Needs cargo-fuzz; a stable compiler will do.
set -euo pipefail
program=$(realpath "${1:?the program whose files to start from}")
seconds=${2:-600}
folder=${3:+$(realpath "$3")}
cd "$(dirname "$0")/../.."
found=$PWD/target/fuzz
export CATALOG_OFFLINE=1 RUSTC_BOOTSTRAP=1 TMPDIR=${TMPDIR:-/tmp}
if command -v clang > /dev/null; then
    export CC=clang CFLAGS="-fsanitize=address -fsanitize=fuzzer-no-link -g -O1"
fi

python3 scripts/faults/fuzz_seeds.py "$program" "$found/seeds" ${folder:+"$folder"}
for target in ${TARGETS:-decode journal labels taxonomy model_file idx pixel_csv manifest torch_file}; do
    home=pipeline/fuzz
    [ -e "$home/fuzz_targets/$target.rs" ] || home=fuzz
    # The versions that the program is built with; cargo adds those of the targets alone.
    cp Cargo.lock "$home/Cargo.lock"
    mkdir -p "$found/corpus/$target"
    echo "== $target"
    # An input that takes 10 s or 1 GiB is a fault as much as a panic is.
    cargo fuzz run --fuzz-dir "$home" --target-dir "$found/build" "$target" "$found/corpus/$target" "$found/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=512 -print_final_stats=1 \
        2> "$found/$target.log" || {
        tail -40 "$found/$target.log"
        exit 1
    }
    grep -a 'stat::number_of_executed_units\|stat::peak_rss_mb\|^#.*DONE' "$found/$target.log"
done

#!/usr/bin/env bash
# Whole runs of `catalog classify` and of Python programs over the same folders with the same models, in turn: medians as Markdown.
#
#     scripts/compare/classify.sh --photos DIR [--work DIR] [--rounds N] [--only CASE…] [--without PROGRAM…]
#
# DIR has folders of classes with JPEG photos of about 400×533 pixels; 24,000 files and others are made of them. PYTHON names a Python with
# scripts/compare/requirements.txt installed (default: python3), CATALOG the program and BARE_RATES its benchmark (default: builds
# of this source).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case " $* " in
    *" -h "* | *" --help "*)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
esac
manifest="$here/../../Cargo.toml"
built() {
    cargo build --release --locked --manifest-path "$manifest" "$@" --message-format json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
: "${CATALOG:=$(built --bin catalog)}"
: "${BARE_RATES:=$(built --bench bare_rates)}"
exec "${PYTHON:-python3}" "$here/classify.py" --program "$CATALOG" --bare-rates "$BARE_RATES" "$@"

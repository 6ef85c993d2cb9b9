#!/usr/bin/env bash
# One training step by the program, in each formulation, and by PyTorch, in turn: medians as a Markdown table.
#
#     scripts/compare/step.sh [NETWORK…] [--rounds N] [--steps N] [--batch N] [--side N] [--channels N]
#
# NETWORK is seed, seed-bn, resnet, vgg, vgg-bn or JSON as in an options.json; without one vgg, vgg-bn, seed and resnet are
# measured. PYTHON names a Python with scripts/compare/requirements.txt installed (default: python3), BENCHMARK the program's
# benchmark (default: a build of this source).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case " $* " in
    *" -h "* | *" --help "*)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
esac
if [ -z "${BENCHMARK:-}" ]; then
    BENCHMARK=$(cargo build --release --locked --manifest-path "$here/../../Cargo.toml" --bench training_step \
        --message-format json | sed -n 's/.*"name":"training_step".*"executable":"\([^"]*\)".*/\1/p')
fi
exec "${PYTHON:-python3}" "$here/step.py" --benchmark "$BENCHMARK" "$@"

#!/usr/bin/env bash
# The same training by the program and by PyTorch, one after the other, and both test accuracies side by side.
#
#     scripts/compare/train.sh OUTDIR DATADIR [options of catalog train]
#
# DATADIR holds the gzipped IDX files of Fashion-MNIST, OUTDIR is for the model and the figures. PYTHON names a Python with
# scripts/compare/requirements.txt installed (default: python3), CATALOG the program (default: a release build of this source).
set -euo pipefail

if [ $# -lt 2 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
out=$1
data=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if [ -z "${CATALOG:-}" ]; then
    cargo build --release --locked --manifest-path "$here/../../Cargo.toml"
    CATALOG=$here/../../target/release/catalog
fi

"$CATALOG" train "$data" --out "$out" "$@"
"$python" "$here/train_pytorch.py" --options "$out/options.json" --data "$data" --out "$out/pytorch.json"
"$python" "$here/side_by_side.py" --model "$out/model.onnx" --pytorch "$out/pytorch.json" --data "$data"
echo "the time of a single training step, by the program and by PyTorch in turn: $here/step.sh" >&2

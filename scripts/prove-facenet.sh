#!/usr/bin/env bash
# The proof that FaceNet's export is faithful: random weights through PyTorch and through ONNX Runtime, then through this project's own
# loader. Needs a Python with PyTorch (apt-get install python3-torch python3-venv); kept out of `make test` because of its size.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=.cache
python=${VISAGE_PYTHON:-/usr/bin/python3}
"$python" -c 'import torch' 2>/dev/null || {
  echo "prove-facenet: $python has no PyTorch; apt-get install python3-torch python3-venv, or name another in VISAGE_PYTHON" >&2
  exit 1
}
mkdir -p "$cache/dl" "$cache/proof"
part=$(mktemp -d "$cache/dl/part.XXXXXX")
trap 'rm -rf "$part"' EXIT
printf '%s\n' "facenet-pytorch==2.6.0 --hash=sha256:ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca" >"$part/list"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --ignore-requires-python --require-hashes -r "$part/list" --dest "$part"
"$python" -m zipfile -e "$part"/facenet_pytorch-*.whl "$part/package"
[ -x "$cache/proof/venv/bin/python" ] || "$python" -m venv --system-site-packages "$cache/proof/venv"
"$cache/proof/venv/bin/python" -m pip install --quiet --disable-pip-version-check onnxruntime==1.31.1
"$cache/proof/venv/bin/python" -W ignore models/export_facenet.py --random-weights 7 --check \
  --module "$part/package/facenet_pytorch/models/inception_resnet_v1.py" \
  --out "$cache/proof/facenet-random.onnx" --reference "$cache/proof/reference.json"
cargo test --locked --lib models::tests::the_exported_facenet -- --nocapture

#!/usr/bin/env bash
# cuda.sh LIB: ONNX Runtime with CUDA into LIB, the libraries of CUDA and cuDNN that it loads into LIB/cuda. The driver's own (libcuda.so.1) come from the node.
set -euo pipefail
lib=$1 here=$(dirname "$(realpath "$0")")
[ "$(uname -m)" = x86_64 ] || { echo "cuda: nothing is pinned for $(uname -m)" >&2; exit 1; }
part=$(mktemp -d)
trap 'rm -rf "$part"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes --dest "$part/wheels" \
  --python-version 3.11 --implementation cp --abi cp311 --abi none --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
  --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --requirement "$here/cuda-requirements.txt"
mkdir -p "$lib/cuda"
for wheel in "$part"/wheels/*.whl; do
  unzip -q "$wheel" '*.so*' -d "$part/files"
done
runtime=$(find "$part/files/onnxruntime/capi" -name 'libonnxruntime.so.*')
mv "$runtime" "$part"/files/onnxruntime/capi/libonnxruntime_providers_{cuda,shared}.so "$lib/"
ln -sfn "$(basename "$runtime")" "$lib/libonnxruntime.so"
rm -rf "$part/files/onnxruntime"
find "$part/files" -type f -name '*.so*' -exec mv -t "$lib/cuda/" {} +
for name in libcudart libcublas libcublasLt libcurand libcufft libcudnn; do
  compgen -G "$lib/cuda/$name.so.*" >/dev/null || { echo "cuda: $name is in none of the wheels" >&2; exit 1; }
done

#!/usr/bin/env bash
# ONNX Runtime's shared library, out of its Python wheel.
. "$(dirname "$0")/fetch.sh"
cache=$1
if [ "$(uname -m)" != x86_64 ]; then
  echo "setup: no ONNX Runtime is pinned for $(uname -m); put libonnxruntime.so into $cache/onnxruntime and run make again" >&2
  exit 1
fi
fetch "$cache" wheel onnxruntime==1.31.1 onnxruntime-1.31.1.whl 5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
part=$(mktemp -d "$cache/dl/part.XXXXXX")
trap 'rm -rf "$part"' EXIT
unzip -q "$cache/dl/onnxruntime-1.31.1.whl" 'onnxruntime/capi/libonnxruntime.so*' onnxruntime/LICENSE -d "$part"
mkdir -p "$cache/onnxruntime"
cp "$part"/onnxruntime/LICENSE "$cache/onnxruntime/"
cp "$part"/onnxruntime/capi/libonnxruntime.so.1.31.1 "$cache/onnxruntime/"
ln -sfn libonnxruntime.so.1.31.1 "$cache/onnxruntime/libonnxruntime.so"
echo "setup: ONNX Runtime 1.31.1 is in $cache/onnxruntime"

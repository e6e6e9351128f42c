#!/usr/bin/env bash
# buf, the linter of protobuf files, out of its Python wheel.
. "$(dirname "$0")/fetch.sh"
cache=$1
fetch "$cache" wheel buf-bin==1.75.0 buf_bin-1.75.0.whl 6fd3ecb1694b6f5bcdfb9bef5297b330ffb9731b95445a42944c1b6158428101
part=$(mktemp -d "$cache/dl/part.XXXXXX")
trap 'rm -rf "$part"' EXIT
unzip -q "$cache/dl/buf_bin-1.75.0.whl" -d "$part"
mkdir -p "$cache/tools"
cp "$(find "$part" -type f -name buf | head -n 1)" "$cache/tools/buf"
chmod +x "$cache/tools/buf"
echo "setup: buf is in $cache/tools"

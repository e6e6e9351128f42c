#!/usr/bin/env bash
# Runs the stages of deploy/docker/Dockerfile without a container engine: Debian by debootstrap, the scripts of the stages in it, and the program as the
# container runs it (its own user, a root that can't be written, no shell), with the settings of the chart. Needs root, debootstrap and the network for
# packages, takes minutes; not part of `make lint`. The network of the second half is one of its own.
#   scripts/check-image.sh [BINARY [FOLDER]]
#   scripts/check-image.sh able          whether this machine lets it
# BINARY (target/release/visage) is put in; with simulated cameras in it (the default build) it also plays one and is asked who came.
# Ends with 75 when no Debian could be made to put it in: that says nothing of the image.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = able ]; then
  [ "$(id -u)" -eq 0 ] && unshare -m true && unshare -n true && chroot / true && command -v debootstrap >/dev/null
  exit
fi
no_root() { echo "check-image: $1 failed; the end of $2:" >&2; tail -n 20 "$2" >&2; exit 75; }
binary=$(realpath "${1:-target/release/visage}") folder=${2:-.cache/image}
[ "$(id -u)" -eq 0 ] || { echo "check-image: needs root (debootstrap, chroot)" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "check-image: apt-get install debootstrap" >&2; exit 1; }
[ -x "$binary" ] || { echo "check-image: no program at $binary; make build" >&2; exit 1; }
[ -x .cache/tools/helm ] || { echo "check-image: make deploy-lint" >&2; exit 1; }
[ -f .cache/onnxruntime/libonnxruntime.so ] && [ -f .cache/fixtures/obama.jpg ] || { echo "check-image: make setup" >&2; exit 1; }
mkdir -p "$folder"
folder=$(realpath "$folder")
base=$folder/base root=$folder/root
say() { echo "── $*"; }

if [ ! -f "$folder/base.done" ]; then
  say "debootstrap"
  rm -rf "$base"
  debootstrap --variant=minbase bookworm "$base" >"$folder/debootstrap.log" 2>&1 || no_root debootstrap "$folder/debootstrap.log"
  touch "$folder/base.done"
fi
rm -rf "$root"
cp -a "$base" "$root"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
# The caller's TMPDIR need not exist in the root.
inside() { chroot "$root" /usr/bin/env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin TMPDIR=/tmp "$@"; }

# As in the images of Debian: no sync after each package.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
say "packages of all stages: are they there?"
inside apt-get update >"$folder/runtime.log" 2>&1 || no_root "apt-get update" "$folder/runtime.log"
sed -e ':a' -e '/\\$/N; s/\\\n//; ta' deploy/docker/Dockerfile | sed -n 's/.*no-install-recommends \([^&]*\).*/\1/p' | while read -ra packages; do
  inside apt-get install --simulate --no-install-recommends "${packages[@]}" </dev/null >>"$folder/runtime.log" 2>&1 || { tail -n 5 "$folder/runtime.log" >&2; exit 1; }
  echo "${packages[*]}"
done

say "stage runtime: deploy/docker/runtime.sh"
cp deploy/docker/runtime.sh deploy/docker/trim.sh "$root/"
inside sh /runtime.sh >>"$folder/runtime.log" 2>&1 || { tail -n 20 "$folder/runtime.log" >&2; exit 1; }
simulator=
if readelf -d "$binary" | grep -q libgstrtspserver; then
  simulator=yes
  say "the program was built with simulated cameras: libgstrtspserver is added, which the container does not hold"
  inside sh -c 'apt-get update && apt-get install -y --no-install-recommends libgstrtspserver-1.0-0' >>"$folder/runtime.log" 2>&1
fi

say "stage common: program, ONNX Runtime, models, user"
install -D -s "$binary" "$root/usr/local/bin/visage"
cp -a .cache/onnxruntime/*.so* "$root/usr/local/lib/"
mkdir -p "$root/usr/local/share/visage/models" "$root/etc/visage"
for model in retinaface-mnet025 dlib-resnet; do
  [ -f ".cache/models/$model.onnx" ] || { echo "check-image: no model $model; visage models pull" >&2; exit 1; }
  cp ".cache/models/$model.onnx" "$root/usr/local/share/visage/models/"
done
install -d -o 65532 -g 65532 -m 0700 "$root/var/lib/visage"

say "stage full: deploy/docker/trim.sh"
before=$(du -sm "$root" | cut -f1)
inside sh /trim.sh
rm -f "$root/runtime.sh" "$root/trim.sh"
echo "$before MiB before, $(du -sm "$root" | cut -f1) MiB after; GStreamer's plugins: $(find "$root/usr/lib" -path '*/gstreamer-1.0/*.so' | wc -l); programs: $(find "$root/usr/bin" "$root/usr/sbin" "$root/usr/local/bin" -mindepth 1 -printf '%f ')"
[ ! -e "$root/bin/sh" ] || { echo "check-image: a shell is left" >&2; exit 1; }

say "the program: its own user, nothing can be written but its data folder and /tmp"
install -d "$root/etc/visage/tls" "$root/etc/visage/key"
echo "127.0.0.1 localhost visage.visage.svc" >"$root/etc/hosts"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout "$folder/tls.key" -out "$folder/tls.crt" -subj /CN=visage \
  -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:visage.visage.svc,DNS:localhost 2>/dev/null
cp "$folder/tls.crt" "$folder/tls.key" "$root/etc/visage/tls/"
cp "$folder/tls.crt" "$root/etc/visage/tls/ca.crt"
openssl rand -base64 32 >"$root/etc/visage/key/visage.key"
chmod 0440 "$root"/etc/visage/tls/* "$root"/etc/visage/key/*
chgrp 65532 "$root"/etc/visage/tls/* "$root"/etc/visage/key/*
# The settings that the chart makes.
.cache/tools/helm template visage deploy/helm/visage --namespace visage --show-only templates/config.yaml \
  --set image.repository=x,tls.secretName=tls,storageKey.secretName=key,fullnameOverride=visage |
  PYTHONPATH=.cache/tools/python python3 -c 'import sys, yaml; print(yaml.safe_load(sys.stdin)["data"]["visage.toml"])' >"$root/etc/visage/visage.toml"
rm -rf "${folder:?}/data"
install -d -o 65532 -g 65532 -m 0700 "$folder/data"
mkdir -p "$folder/face"
cp .cache/fixtures/obama.jpg "$folder/face/"
cat "$folder/tls.crt" "$folder/tls.key" >"$folder/simulator.pem"
exec unshare -n scripts/check-image-run.sh "$folder" "${simulator:+$binary}"

#!/usr/bin/env bash
# Debian packages: GStreamer with its codecs, pip and npm to fetch models. Works as root and with sudo.
set -euo pipefail
packages=(
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstrtspserver-1.0-dev
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
  glib-networking pkg-config gcc libc6-dev make ca-certificates unzip
)
# The machine's own python3 and npm are as good as Debian's.
python3 -m pip --version >/dev/null 2>&1 || packages+=(python3 python3-pip)
command -v npm >/dev/null || packages+=(npm)

command -v cargo >/dev/null || {
  echo "setup: Rust is missing; install it from https://rustup.rs and open a new shell" >&2
  exit 1
}
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: Debian packages are there"
  exit 0
fi
echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}"
root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "setup: neither root nor sudo; ask an administrator for: apt-get install ${missing[*]}" >&2
    exit 1
  }
  root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { "${root[@]}" apt-get update && "${root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "setup: Debian packages could not be installed (above); mend it, then run make again" >&2
  exit 1
fi
rm -f "$log"
echo "setup: Debian packages installed"

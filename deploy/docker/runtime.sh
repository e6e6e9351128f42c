#!/bin/sh
# The Debian packages that Visage needs at run time, and of GStreamer and GLib only the modules that cameras need: what is not there can't be attacked.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends \
  ca-certificates glib-networking libgstreamer1.0-0 libgstreamer-plugins-base1.0-0 libstdc++6 \
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav
rm -rf /var/lib/apt/lists/*

arch=$(find /usr/lib -path '*/gstreamer-1.0/libgstcoreelements.so' | head -n 1)
arch=${arch%/gstreamer-1.0/*}
# only FOLDER PREFIX NAME...: of the modules in a folder these stay.
only() {
  folder=$1 prefix=$2
  shift 2
  for name in "$@"; do
    [ -f "$folder/$prefix$name.so" ] || {
      echo "runtime: $folder/$prefix$name.so is missing" >&2
      exit 1
    }
  done
  for file in "$folder"/*.so; do
    name=$(basename "$file" .so)
    case " $* " in *" ${name#"$prefix"} "*) ;; *) rm "$file" ;; esac
  done
}
only "$arch/gstreamer-1.0" libgst coreelements app rtsp rtp rtpmanager udp jpeg libav videoconvertscale videoparsersbad
only "$arch/gio/modules" libgio gnutls

#!/bin/sh
# The last command of a stage: takes out shells, the package manager and every other program that Visage does not run, and the libraries that then
# nobody loads. `df` stays: `visage doctor` asks it for free space.
set -eu
arch=$(find /usr/lib -path '*/gstreamer-1.0/libgstcoreelements.so' | head -n 1)
arch=${arch%/gstreamer-1.0/*}
work=$(mktemp -d)
# What the program, its modules and libraries loaded by name (host names, character sets) need, with all that those need.
{
  echo /usr/local/bin/visage
  echo /usr/bin/df
  find /usr/local/lib "$arch/gstreamer-1.0" "$arch/gstreamer1.0" "$arch/gio" "$arch/gconv" -type f
  find "$arch" -maxdepth 1 \( -name 'libnss_*' -o -name 'libresolv*' \)
} >"$work/roots"
while read -r file; do
  echo "$file"
  LD_LIBRARY_PATH=/usr/local/lib/cuda ldd "$file" 2>/dev/null || true
done <"$work/roots" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\).*/\1/p' | sort -u >"$work/used"
while read -r file; do readlink -f "$file"; done <"$work/used" | sort -u >"$work/kept"
find "$arch" -type f -name '*.so*' | while read -r file; do grep -qxF "$file" "$work/kept" || rm -f "$file"; done
find "$arch" -xtype l -delete
rm -rf "$work" /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info /usr/share/lintian /usr/share/perl* /usr/share/icons /usr/share/X11 \
  /usr/share/fonts "$arch"/perl* /var/lib/apt /var/cache/* /var/log/* /etc/apt /usr/lib/apt /usr/lib/dpkg /var/lib/dpkg/info
# From here on nothing can be started any more but what still comes.
find /usr/bin /usr/sbin /usr/local/sbin -mindepth 1 ! -name df ! -name find -delete
exec find /usr/bin -name find -delete

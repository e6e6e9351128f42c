#!/usr/bin/env bash
# The raw limits of an idle camera, beside the server and on the same stream: what GStreamer alone takes to receive it, to find its pictures, to decode its key frames
# and to decode all of it. Prints per cents of a core (medians of 10 s each), then what `visage bench pipeline --scene idle` says of the server in the same minutes.
# Needs gst-launch-1.0 (Debian: gstreamer1.0-tools) and ss (iproute2).
#   benches/idle_limit.sh [BINARY]
set -euo pipefail
visage=${1:-target/release/visage}
for tool in gst-launch-1.0 ss; do
  command -v "$tool" >/dev/null || { echo "idle_limit: $tool is missing: apt-get install gstreamer1.0-tools iproute2" >&2; exit 1; }
done
work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT
# The server is watched for 61 s with AUTO, then for 61 s decoding everything.
"$visage" bench pipeline --scene idle --cameras 2 --seconds 61 --json >"$work/bench.json" 2>"$work/bench.log" &
bench=$!
pids+=("$bench")
until grep -q STREAMING "$work/bench.log"; do
  kill -0 "$bench" 2>/dev/null || { tail -n 5 "$work/bench.log" >&2; exit 1; }
  sleep 1
done
port=$(ss -ltnp | grep "pid=$bench," | grep -o '127.0.0.1:[0-9]*' | head -n 1 | cut -d: -f2) || true
[ -n "$port" ] || { echo "idle_limit: ss shows no port of the bench; run it as the same user" >&2; exit 1; }
raw() {
  # shellcheck disable=SC2086 # Elements are words.
  gst-launch-1.0 -q rtspsrc location="rtsp://127.0.0.1:$port/idle" protocols=tcp $1 ! fakesink sync=false &
  pids+=("$!")
}
parse='! rtph264depay ! h264parse ! video/x-h264,alignment=au'
raw ''
raw "$parse"
raw "$parse ! identity drop-buffer-flags=delta-unit ! avdec_h264 max-threads=1"
raw "$parse ! avdec_h264 max-threads=1"
# Clock ticks of a process, user and system.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
all() { for pid in "${pids[@]:1}"; do ticks "$pid"; done | paste -sd ' '; }
sleep 14
for _ in 1 2 3 4 5; do
  before=$(all)
  sleep 10
  echo "$before $(all)" >>"$work/ticks"
done
hz=$(getconf CLK_TCK)
column=0
for what in receive "receive and parse" "decode key frames" "decode everything"; do
  column=$((column + 1))
  median=$(awk -v c=$column -v hz="$hz" '{ print ($(c + 4) - $c) / hz * 10 }' "$work/ticks" | sort -n | sed -n 3p)
  echo "$what: $median % of a core"
done
kill "${pids[@]:1}"
wait "$bench"
cat "$work/bench.json"

#!/usr/bin/env bash
# The second half of scripts/check-image.sh, in a network of its own: plays what Kubernetes does with the container.
#   check-image-run.sh FOLDER [SIMULATOR]
set -euo pipefail
folder=$1 simulator=${2:-} root=$1/root
ip link set lo up
say() { echo "── $*"; }
wrong() { echo "check-image: $*; see $folder/serve.log" >&2; exit 1; }
# As `docker run --read-only --tmpfs /tmp -v data:/var/lib/visage`, in a mount namespace of its own.
cat >"$folder/run.sh" <<'RUN'
set -euo pipefail
root=$1 data=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount --bind "$data" "$root/var/lib/visage"
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmp "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
exec chroot --userspec=65532:65532 "$root" /usr/local/bin/visage "$@"
RUN
outside=(PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin HOME=/tmp GST_REGISTRY=/tmp/gstreamer-registry.bin VISAGE_CONFIG=/etc/visage/visage.toml
  VISAGE_SERVER=https://visage.visage.svc:50051 VISAGE_CA_FILE=/etc/visage/tls/ca.crt)
token=
contained() { env -i "${outside[@]}" ${token:+VISAGE_TOKEN="$token"} unshare -m bash "$folder/run.sh" "$root" "$folder/data" "$@"; }
until_true() { for _ in $(seq "$1"); do "${@:2}" && return; sleep 1; done; return 1; }
http() { curl --silent --output /dev/null --write-out '%{http_code}' --cacert "$folder/tls.crt" "${@:2}" "https://localhost:8080$1"; }
answers() { [ "$(http "$@" || true)" = "$code" ]; }

contained --version
contained doctor
contained serve --print-config | grep -c '# /etc/visage/visage.toml' | sed 's/$/ settings come from the file of the chart/'

say "the server, as the StatefulSet starts it"
# A simple command in the background: env, unshare, bash and chroot become the program, one process to end.
env -i "${outside[@]}" VISAGE_LOG_FORMAT=json unshare -m bash "$folder/run.sh" "$root" "$folder/data" serve >"$folder/serve.log" 2>&1 &
server=$!
pids=("$server")
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
code=200
until_true 90 answers /healthz || wrong "/healthz does not answer"
until_true 90 answers /readyz || wrong "/readyz does not answer"
[ ! -e "$folder/data/visage.key" ] || wrong "a key was made in the data folder although one is given"
code=401
answers /metrics || wrong "/metrics asks for no token"
viewer=$(contained token create monitoring --role viewer 2>/dev/null)
code=200
until_true 5 answers /metrics --header "Authorization: Bearer $viewer" || wrong "/metrics does not take the token"
echo "probes answer over HTTPS, /metrics asks for a token and takes one of the role viewer"

say "helm test"
contained health
token=$viewer
contained info | head -n 6

if [ -n "$simulator" ]; then
  say "cameras: simulated outside, watched inside"
  token=$(contained token create admin --role admin 2>/dev/null)
  "$simulator" simulate --port 8554 "door=$folder/face" >"$folder/simulate.log" 2>&1 &
  pids+=($!)
  "$simulator" simulate --port 8322 --tls "$folder/simulator.pem" "gate=$folder/face,codec=h265" >>"$folder/simulate.log" 2>&1 &
  pids+=($!)
  contained camera add door rtsp://127.0.0.1:8554/door
  contained camera add gate rtsps://127.0.0.1:8322/gate --tls insecure
  seen() {
    contained --json events list >"$folder/events.json" 2>/dev/null || true
    grep APPEARED "$folder/events.json" | grep -q cameras/door && grep APPEARED "$folder/events.json" | grep -q cameras/gate
  }
  until_true 60 seen || { contained camera list; wrong "no face appeared"; }
  contained camera list
  echo "a face appeared at both, over rtsp (H.264) and rtsps (H.265)"
fi
say "backup, beside the running server"
contained backup create /var/lib/visage/check.tgz

say "the end"
kill "$server"
ended=0
wait "$server" || ended=$?
[ "$ended" -eq 0 ] || wrong "the server ended with $ended"
contained backup create /var/lib/visage/stopped.tgz
contained backup check /var/lib/visage/stopped.tgz
contained backup restore /var/lib/visage/stopped.tgz --replace
echo "── the image's stages are sound"

#!/usr/bin/env bash
# Everything in deploy/ that can be judged without a cluster or a container engine. Needs scripts/setup-deploy-tools.sh, no network.
#   scripts/check-deploy.sh                                all of it
#   scripts/check-deploy.sh settings target/debug/visage   the program itself reads the settings that are rendered
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/.cache/tools chart=deploy/helm/visage
export PATH=$tools:$PATH PYTHONPATH=$tools/python PYTHONDONTWRITEBYTECODE=1
# Helm looks for settings and plug-ins of the user's own.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm
wrong() { echo "check-deploy: $*" >&2; exit 1; }

policy=(python3 -m policy --given helm/visage/ci/given.yaml --adapter prometheus/adapter.yaml)

# Good values render, each by itself.
good=0 bad=0
for values in "$chart"/ci/*.yaml; do
  name=$(basename "$values" .yaml)
  [ "$name" != given ] || continue
  [ "${1:-}" = settings ] ||
    helm lint --strict --quiet "$chart" --values "$values" >"$work/lint" 2>&1 || { cat "$work/lint" >&2; wrong "helm lint $values"; }
  helm template visage "$chart" --namespace visage --values "$values" >"$work/$name.yaml" || wrong "$values does not render"
  case $name in
    # The longest name that Helm takes for a release.
    *backup* | *own*) helm template a.release-with-a-name-as-long-as-helm-will-ever-take "$chart" --namespace visage --values "$values" >"$work/$name-long.yaml" ;;
  esac
  good=$((good + 1))
done
if [ "${1:-}" = settings ]; then
  program=$(realpath "${2:?name the program}")
  cd deploy
  "${policy[@]}" --program "$program" "$work"/*.yaml
  echo "check-deploy: $program reads the settings of $good sets of values"
  exit
fi

# Bad ones are refused, and the message says what was meant to be refused.
for values in "$chart"/ci/bad/*.yaml; do
  expected=$(sed -n '1s/^# expect: //p' "$values")
  [ -n "$expected" ] || wrong "$values: the first line does not say what to expect"
  if helm template visage "$chart" --values "$chart/ci/embedded-minimal.yaml" --values "$values" >"$work/told" 2>&1; then
    wrong "$values renders, and should not: $expected"
  fi
  grep -qF "$expected" "$work/told" || { cat "$work/told" >&2; wrong "$values: the message does not say: $expected"; }
  bad=$((bad + 1))
done
# The notes are rendered by an installation only.
helm install visage "$chart" --dry-run=client --values "$chart/ci/embedded-insecure.yaml" >"$work/notes" 2>&1 || { cat "$work/notes" >&2; wrong "the notes do not render"; }
grep -q 'WITHOUT ENCRYPTION' "$work/notes" || wrong "the notes keep still about insecure"
helm package "$chart" --destination "$work" >/dev/null
if tar -tzf "$work"/visage-[0-9]*.tgz | grep -q '/ci/'; then wrong "the package carries the values of the checks"; fi

# Versions that are written down more than once.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
grep -qF "appVersion: \"$version\"" "$chart/Chart.yaml" || wrong "Chart.yaml: appVersion is not $version, as Cargo.toml says"
grep -qF "image: visage:$version" deploy/compose.yaml || wrong "compose.yaml: the image is not visage:$version"
runtime=$(sed -n 's/.*onnxruntime==\([0-9.]*\) .*/\1/p' scripts/setup-onnxruntime.sh)
grep -q "^onnxruntime-gpu==$runtime " deploy/docker/cuda-requirements.txt || wrong "cuda-requirements.txt: ONNX Runtime is not $runtime, as for the CPU"
for image in nats qdrant; do
  named=$(sed -n "/^$image:/,/^[a-z]/s/^  image: //p" "$chart/values.yaml")
  grep -qF "image: $named" deploy/compose.yaml || wrong "compose.yaml: $image is not $named, as in the chart"
done

if [ -x "$tools/promtool" ]; then
  promtool test rules deploy/prometheus/alerts.test.yaml >"$work/alerts" 2>&1 || { cat "$work/alerts" >&2; wrong "alerts do not what they are for"; }
else
  echo "check-deploy: SKIPPED: the alerts are not played, there is no promtool"
fi
hadolint deploy/docker/Dockerfile
for script in deploy/docker/*.sh; do bash -n "$script"; done
cd deploy
python3 -W ignore -m unittest policy.tests >"$work/tests" 2>&1 || { cat "$work/tests" >&2; wrong "the rules' own tests fail"; }
"${policy[@]}" --compose compose.yaml --dockerfile docker/Dockerfile "$work"/*.yaml
echo "check-deploy: $good sets of values render and keep the rules, $bad are refused"

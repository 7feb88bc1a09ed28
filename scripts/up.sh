#!/usr/bin/env bash
# Installs what the build needs, builds the release binary and starts the node. Arguments go to `windlass up`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh build
cargo build --release --locked --package windlass
mkdir -p target/release
ln -sf ../x86_64-unknown-linux-gnu/release/windlass target/release/windlass
exec target/release/windlass up "$@"

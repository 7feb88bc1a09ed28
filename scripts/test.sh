#!/usr/bin/env bash
# Installs what the tests need, builds the clients they drive, and runs every test of the workspace; then the quick specs of
# upstream's conformance suite and the comparison of answers with upstream's API server, on the binary that was tested.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/packages.sh build test
scripts/clients.sh
scripts/kernel.sh
export KUBECTL=$PWD/conformance/bin/kubectl
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
cargo test --locked --workspace --all-targets --no-fail-fast 2>&1 | tee "$log" || status=$?
export WINDLASS=${CARGO_TARGET_DIR:-$PWD/target}/x86_64-unknown-linux-gnu/debug/windlass
QUICK=1 conformance/run.sh 2>&1 | tee -a "$log" || status=$?
compared() { conformance/differ.sh && echo 'oracle result: 1 passed; 0 failed' || { echo 'oracle result: 0 passed; 1 failed' && false; }; }
compared 2>&1 | tee -a "$log" || status=$?
# One closing line for all the test programs together.
awk '/ result: / { for (i = 1; i <= NF; i++) { if ($i == "passed;") p += $(i-1); if ($i == "failed;" || $i == "failed") f += $(i-1); if ($i == "ignored;") s += $(i-1) } }
     END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$log"
exit "$status"

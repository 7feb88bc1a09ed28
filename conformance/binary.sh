# Sourced by the runners. Installs what building and testing need, and sets $windlass, the binary of $WINDLASS, or a release
# build of this tree; and $commit, which says what that is.
../scripts/packages.sh build test
windlass=${WINDLASS:-}
if [ -z "$windlass" ]; then
  (cd .. && cargo build --release --locked --package windlass)
  windlass=$(cd .. && realpath "${CARGO_TARGET_DIR:-target}")/x86_64-unknown-linux-gnu/release/windlass
fi
commit=$(git rev-parse --short HEAD)
# What the runners themselves write makes no other tree of it.
[ -z "$(git status --porcelain -- :/ ':!/conformance/results' ':!/conformance/passing.txt' ':!/docs/conformance.md')" ] || commit+=", changed"
[ -z "${WINDLASS:-}" ] || commit+=", with a binary given"

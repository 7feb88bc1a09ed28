#!/usr/bin/env bash
# Unpacks Debian's cloud kernel and its modules into conformance/bin/kernel, for the virtual machine of the tests.
# It is not installed: no test may choose the kernel that this machine boots next.
set -euo pipefail
target=$(realpath "$(dirname "$0")/..")/conformance/bin/kernel
[ -d "$target" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || apt-get update -qq
package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" { print $2; exit }')
apt-get -o APT::Sandbox::User=root download -qq "$package"
dpkg-deb -x ./*.deb kernel
release=$(ls kernel/lib/modules)
depmod --basedir "$work/kernel" "$release"
mkdir -p "${target%/*}"
rm -rf "$target.part"
mv kernel "$target.part"
mv "$target.part" "$target"

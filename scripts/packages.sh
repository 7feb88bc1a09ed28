#!/usr/bin/env bash
# Installs the Debian packages that building (`build`) and testing (`test`) need, where they are missing.
set -euo pipefail
declare -A packages=(
  [build]="gcc libc6-dev cmake libseccomp-dev pkg-config"
  [test]="binutils busybox-static cpio dnsutils docker-registry iproute2 kmod nftables openssl procps qemu-system-x86 skopeo"
  [kubelet]="containerd containernetworking-plugins iptables runc"
)
missing=()
for set in "$@"; do
  for package in ${packages[$set]}; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
done
[ ${#missing[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
# Some of them are services, which only the tests start.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

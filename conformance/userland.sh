#!/usr/bin/env bash
# Makes the Debian root file system that the suite's images share, as a tar archive: the same bytes from the same packages, which
# are those that Debian 12 has on the day.
#   userland.sh FILE
set -euo pipefail
command -v mmdebstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null; }
export SOURCE_DATE_EPOCH=0
mmdebstrap --variant=essential --format=tar --quiet \
  --include=bash,ca-certificates,curl,dnsutils,iperf,iproute2,iputils-ping,netcat-openbsd,nginx-light,procps,socat,util-linux \
  --customize-hook='ln -sf bash "$1/bin/sh"' \
  --customize-hook='rm -rf "$1"/var/cache/apt "$1"/var/lib/apt/lists "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale' \
  --customize-hook='rm -f "$1/etc/resolv.conf" "$1/etc/hostname"; mkdir -p "$1/usr/share/nginx/html"' \
  bookworm "$1.part"
mv "$1.part" "$1"

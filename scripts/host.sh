#!/usr/bin/env bash
# A second host on this machine, to try a cluster of several nodes: a network namespace at the other end of a cable. No bridge:
# one would answer a node port's clients on the other host only if it sent frames back out of the port that they came in by.
#   host.sh up NAME SUBNET   the link NAME with SUBNET.1 here, the namespace NAME with SUBNET.2 (SUBNET such as 172.29.250)
#   host.sh down NAME        takes both away
# A program runs there by: nsenter --net=/run/netns/NAME PROGRAM. (ip netns exec would hide /sys/fs/cgroup.)
set -euo pipefail
name=$2
down() {
  ip link delete "$name" 2>/dev/null || true
  ip netns delete "$name" 2>/dev/null || true
  nft delete table ip "$name" 2>/dev/null || true
}
case $1 in
up)
  subnet=$3
  down
  trap 'down' ERR
  ip netns add "$name"
  ip link add "$name" type veth peer name eth0 netns "$name"
  ip address add "$subnet.1/24" dev "$name"
  ip link set "$name" up
  ip -n "$name" address add "$subnet.2/24" dev eth0
  ip -n "$name" link set lo up
  ip -n "$name" link set eth0 up
  ip -n "$name" route add default via "$subnet.1"
  # The way to everywhere else is this host's.
  nft add table ip "$name"
  nft add chain ip "$name" postrouting '{ type nat hook postrouting priority 100; }'
  nft add rule ip "$name" postrouting ip saddr "$subnet.2" ip daddr != "$subnet.0/24" oifname != "wl*" masquerade
  ;;
down) down ;;
*)
  sed -n '2,5p' "$0"
  exit 2
  ;;
esac

# What proves the compatibility; everything else is `cargo` and `scripts/`.
.PHONY: conformance
conformance:
	conformance/run.sh

# Upstream API server beside ours: the same requests, compared.
.PHONY: differ
differ:
	conformance/differ.sh -result results/oracle.json
	cd conformance && go run ./report write

# One of upstream's components in the place of ours: make swap WITH=kube-scheduler
.PHONY: swap
swap:
	conformance/swap.sh

# Another host on this machine, for a second node: nsenter --net=/run/netns/$(HOST) windlass join ...
HOST = wlhost
SUBNET = 172.29.240
.PHONY: host-up host-down
host-up:
	scripts/host.sh up $(HOST) $(SUBNET)
host-down:
	scripts/host.sh down $(HOST)

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

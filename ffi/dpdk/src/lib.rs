//! The safe side of DPDK: every DPDK unsafe ends here.

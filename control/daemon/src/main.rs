//! The gateway: wires the data plane and the cluster to cores, ports and operators.

fn main() {}

//! Clusters, clients, servers and switches in network namespaces.

fn main() {}

//! DPDK for a test: one per process, without huge pages, shared by the tests of a file.

use std::sync::OnceLock;

use dpdk::{Eal, EalSettings, Mempool};

pub(crate) fn settings() -> EalSettings {
    EalSettings {
        program: "test".to_owned(),
        file_prefix: format!("test-{}", std::process::id()),
        main_core: 0,
        huge_pages: false,
        memory_mb: 256,
        devices: Vec::new(),
    }
}

pub(crate) fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| Eal::init(&settings()).unwrap())
}

/// A pool of that name with `buffers` buffers for frames of 2,048 bytes.
#[allow(dead_code, reason = "not every file of tests needs a pool")]
pub(crate) fn pool(name: &str, buffers: u32) -> Mempool {
    Mempool::new(eal(), name, buffers, 2_048).unwrap()
}

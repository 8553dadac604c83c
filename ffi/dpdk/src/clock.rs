//! The cycle counter (TSC): cheap enough to be read once per burst, by any thread.

/// Cycles since some moment in the past; never goes back on the machines that we support (invariant,
/// synchronised TSC).
#[must_use]
pub fn cycles() -> u64 {
    // SAFETY: reads a register.
    unsafe { dpdk_sys::tg_cycles() }
}

/// Cycles per second, as DPDK found at start; zero before [`Eal::init`](crate::Eal::init).
#[must_use]
pub fn hertz() -> u64 {
    // SAFETY: reads a number that is written once, when EAL starts.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}

//! Longest-prefix match over IPv4, by DPDK's DIR-24-8 table.

use std::collections::HashSet;
use std::ffi::c_int;
use std::net::Ipv4Addr;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk_sys::rte_fib;

use crate::error::{c_name, describe, last};
use crate::{Eal, Error, log};

/// How many addresses DPDK is asked for at once.
const CHUNK: usize = 64;
/// The largest value that a narrow table holds: two bytes, of which DPDK uses one bit. It stands for
/// "no route", so identifiers stay below it.
const NARROW_NONE: u64 = 0x7fff;
/// The same of a wide table: four bytes.
const WIDE_NONE: u64 = 0x7fff_ffff;

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// What a look-up answers.
#[derive(Debug)]
pub struct NextHop;

impl NextHop {
    /// No route leads to the address.
    pub const NONE: u32 = u32::MAX;
}

/// A forwarding table: built once, then read by any number of threads.
///
/// It takes 32 MiB of DPDK's memory (64 MiB when an identifier is above 32,766) and 512 bytes
/// (1 KiB) for each /24 that has longer prefixes in it.
#[derive(Debug)]
pub struct Fib {
    fib: NonNull<rte_fib>,
    none: u64,
}

// SAFETY: after `build` the table is only read, until it is dropped.
unsafe impl Send for Fib {}
// SAFETY: as above; look-ups write nothing but their answer.
unsafe impl Sync for Fib {}

impl Fib {
    /// A table of `routes`: prefix, prefix length in bits, and the identifier of a next hop. Bits of
    /// a prefix beyond its length are ignored. Of two routes to one prefix the later one counts.
    ///
    /// # Errors
    /// [`Error::Create`] when a prefix is longer than 32 bits, an identifier is above 2,147,483,646,
    /// or memory is short.
    pub fn build(_eal: &Eal, name: &str, routes: &[(Ipv4Addr, u8, u32)]) -> Result<Self, Error> {
        const KIND: &str = "forwarding table";
        let refused = |cause| Error::Create {
            kind: KIND,
            name: name.to_owned(),
            cause,
        };
        // The name is DPDK's key, and a new table is built while the old one is still in use.
        let unique = format!("{name}.{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let c_name = c_name(KIND, &unique, 48)?;

        let largest = routes
            .iter()
            .map(|route| u64::from(route.2))
            .max()
            .unwrap_or(0);
        let wide = largest >= NARROW_NONE;
        let none = if wide { WIDE_NONE } else { NARROW_NONE };
        if largest >= none {
            return Err(refused(format!("next hop {largest} is out of range")));
        }
        let long: HashSet<[u8; 3]> = routes
            .iter()
            .filter(|route| route.1 > 24)
            .map(|(prefix, ..)| {
                let [a, b, c, _] = prefix.octets();
                [a, b, c]
            })
            .collect();
        // A group more than the worst case, as DPDK keeps the first for itself.
        let tables = u32::try_from(long.len() + 2).map_err(|error| refused(error.to_string()))?;
        let count =
            c_int::try_from(routes.len() + 1).map_err(|error| refused(error.to_string()))?;
        // SAFETY: EAL runs, as `_eal` shows; the name is a C string, copied by the call.
        let (fib, said) = log::capture(|| unsafe {
            dpdk_sys::tg_fib_create(c_name.as_ptr(), count, c_int::from(wide), tables, none)
        });
        let Some(fib) = NonNull::new(fib) else {
            let cause = describe(last());
            return Err(refused(if said.is_empty() { cause } else { said }));
        };
        let table = Self { fib, none };
        for &(prefix, length, next_hop) in routes {
            table.add(prefix, length, next_hop).map_err(refused)?;
        }
        Ok(table)
    }

    fn add(&self, prefix: Ipv4Addr, length: u8, next_hop: u32) -> Result<(), String> {
        // SAFETY: the table is ours and not yet shared.
        let status = unsafe {
            dpdk_sys::rte_fib_add(
                self.fib.as_ptr(),
                prefix.to_bits(),
                length,
                u64::from(next_hop),
            )
        };
        match status {
            0 => Ok(()),
            error => Err(format!("route {prefix}/{length}: {}", describe(error))),
        }
    }

    /// The next hops of `addresses` (in the machine's byte order), [`NextHop::NONE`] where no route
    /// leads. Writes as many answers as the shorter of the two slices is long.
    pub fn lookup_burst(&self, addresses: &[u32], next_hops: &mut [u32]) {
        let mut found = [0_u64; CHUNK];
        for (addresses, next_hops) in addresses.chunks(CHUNK).zip(next_hops.chunks_mut(CHUNK)) {
            let count = addresses.len().min(next_hops.len());
            // SAFETY: both arrays hold `count` (at most 64) elements; the addresses are only read.
            unsafe {
                dpdk_sys::rte_fib_lookup_bulk(
                    self.fib.as_ptr(),
                    addresses.as_ptr().cast_mut(),
                    found.as_mut_ptr(),
                    c_int::try_from(count).unwrap_or(0),
                );
            }
            for (answer, &found) in next_hops.iter_mut().zip(&found[..count]) {
                *answer = if found == self.none {
                    NextHop::NONE
                } else {
                    u32::try_from(found).unwrap_or(NextHop::NONE)
                };
            }
        }
    }
}

impl Drop for Fib {
    fn drop(&mut self) {
        // SAFETY: nobody else has the table any more.
        unsafe { dpdk_sys::rte_fib_free(self.fib.as_ptr()) };
    }
}

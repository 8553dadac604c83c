//! DPDK's runtime (EAL): started once per process, by the control core's thread.

use std::ffi::{CStr, CString, OsStr, c_char, c_int};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{describe, last};
use crate::{Device, Error, log};

const NEVER: u8 = 0;
const TRIED: u8 = 1;
const RUNNING: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(NEVER);

/// Proof that DPDK runs. It is never stopped: buffers, rings and queues may outlive this value.
#[derive(Debug)]
pub struct Eal(());

/// How DPDK is started.
#[derive(Clone, Debug)]
pub struct EalSettings {
    /// Name of the program, for DPDK's own messages.
    pub program: String,
    /// Distinguishes processes on one machine; letters, digits, `-`, `_` and `.`.
    pub file_prefix: String,
    /// The core of the calling thread, which is pinned to it.
    pub main_core: u16,
    /// Whether memory comes from huge pages.
    pub huge_pages: bool,
    /// All of DPDK's memory, in MiB: pools, rings, tables and queues.
    pub memory_mb: u32,
    /// The devices that will be opened. DPDK must know some of them before it starts.
    pub devices: Vec<Device>,
}

impl Eal {
    /// Starts DPDK and pins the calling thread to `main_core`. Threads that it starts later inherit
    /// that, and pin themselves elsewhere if they must.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialised`] at the second call in a process, even if the first failed;
    /// [`Error::Start`] when a setting is wrong or memory or a core is missing.
    pub fn init(settings: &EalSettings) -> Result<Self, Error> {
        let arguments = arguments(settings)?;
        STATE
            .compare_exchange(NEVER, TRIED, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| Error::AlreadyInitialised)?;
        log::install()?;

        // DPDK keeps pointers into its arguments: they live as long as the process.
        let mut argv: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
        let argc = c_int::try_from(argv.len()).unwrap_or(c_int::MAX);
        argv.push(std::ptr::null_mut());
        let argv = Vec::leak(argv).as_mut_ptr();
        let (status, said) = log::capture(|| {
            // SAFETY: `argv` holds `argc` leaked C strings and a null.
            unsafe { dpdk_sys::rte_eal_init(argc, argv) }
        });
        if status < 0 {
            let cause = if said.is_empty() {
                describe(last())
            } else {
                said
            };
            return Err(Error::Start {
                cause,
                remedy: remedy(settings),
            });
        }
        remove_runtime_folder();
        STATE.store(RUNNING, Ordering::Release);
        Ok(Self(()))
    }
}

/// DPDK makes a folder for files that several processes share, and never removes it. This process
/// shares nothing, so it stays empty.
fn remove_runtime_folder() {
    // SAFETY: EAL runs; a C string that lives as long as the process.
    let folder = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
    // One that is not empty belongs to somebody, and is left alone.
    let _ = std::fs::remove_dir(Path::new(OsStr::from_bytes(folder.to_bytes())));
}

/// The version of the DPDK that is linked, such as "DPDK 22.11.11".
#[must_use]
pub fn version() -> String {
    // SAFETY: a static C string.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }
        .to_string_lossy()
        .into_owned()
}

fn remedy(settings: &EalSettings) -> String {
    let memory = settings.memory_mb;
    if settings.huge_pages {
        let pages = memory.div_ceil(2);
        format!(
            "reserve {memory} MiB of huge pages (for example `sysctl vm.nr_hugepages={pages}`), \
             lower the memory, or set huge_pages to false"
        )
    } else {
        format!("free {memory} MiB of memory, or lower the memory")
    }
}

/// The command line that says what `settings` mean.
fn arguments(settings: &EalSettings) -> Result<Vec<CString>, Error> {
    let refused = |cause: String, remedy: &str| Error::Start {
        cause,
        remedy: remedy.to_owned(),
    };
    let prefix = &settings.file_prefix;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(plain) {
        return Err(refused(
            format!("`{prefix}` cannot be a file prefix"),
            "use 1 to 64 letters, digits, `-`, `_` or `.`",
        ));
    }
    let core = settings.main_core;
    if !Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists() {
        return Err(refused(
            format!("core {core} does not exist"),
            "`nproc` tells how many there are",
        ));
    }

    let mut words = vec![settings.program.clone()];
    if settings.huge_pages {
        words.push("--in-memory".to_owned());
    } else {
        // Before 25.11 `--in-memory` and `--no-huge` exclude each other.
        words.extend(["--no-shconf".to_owned(), "--no-huge".to_owned()]);
    }
    words.extend(["-m".to_owned(), settings.memory_mb.to_string()]);
    words.extend(["-l".to_owned(), core.to_string()]);
    words.push(format!("--file-prefix={prefix}"));
    for word in ["--no-telemetry", "--iova-mode=va", "--log-level=warning"] {
        words.push(word.to_owned());
    }
    let pci: Vec<&str> = settings
        .devices
        .iter()
        .filter_map(Device::pci_argument)
        .collect();
    if pci.is_empty() {
        words.push("--no-pci".to_owned());
    }
    for argument in pci {
        words.extend(["-a".to_owned(), argument.to_owned()]);
    }
    if settings.huge_pages && settings.devices.iter().any(Device::shares_its_memory) {
        words.push("--single-file-segments".to_owned());
    }
    words
        .into_iter()
        .map(|word| {
            CString::new(word)
                .map_err(|_| refused("a setting contains a NUL".to_owned(), "take it out"))
        })
        .collect()
}

/// A thread's registration with DPDK, which gives it a cache of buffers in each pool. Ends when it
/// is dropped, on the same thread.
#[derive(Debug)]
pub struct Registered(PhantomData<*mut ()>);

/// Registers the calling thread, which has pinned itself before. Workers want it; without it every
/// buffer that is allocated or freed touches memory that all cores share.
///
/// # Errors
/// [`Error::NotInitialised`] before [`Eal::init`]; [`Error::Register`] when the thread is registered
/// already (the one that called [`Eal::init`] is) or there are too many.
pub fn register_thread() -> Result<Registered, Error> {
    if STATE.load(Ordering::Acquire) != RUNNING {
        return Err(Error::NotInitialised);
    }
    // SAFETY: reads a thread-local number.
    if unsafe { dpdk_sys::tg_thread_is_registered() } != 0 {
        // DPDK would give it a second number and never take the first one back.
        return Err(Error::Register("it is registered already".to_owned()));
    }
    // SAFETY: EAL runs.
    match unsafe { dpdk_sys::rte_thread_register() } {
        0 => Ok(Registered(PhantomData)),
        _ => Err(Error::Register(describe(last()))),
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // SAFETY: this thread is registered: `Registered` cannot leave it.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(settings: &EalSettings) -> String {
        let words = arguments(settings).unwrap();
        words
            .iter()
            .map(|word| word.to_str().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn settings(huge_pages: bool, devices: &[&str]) -> EalSettings {
        EalSettings {
            program: "t".to_owned(),
            file_prefix: "p".to_owned(),
            main_core: 0,
            huge_pages,
            memory_mb: 64,
            devices: devices.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn without_huge_pages_and_pci() {
        assert_eq!(
            words(&settings(false, &["null", "af_packet:lan0"])),
            "t --no-shconf --no-huge -m 64 -l 0 --file-prefix=p --no-telemetry --iova-mode=va \
             --log-level=warning --no-pci"
        );
    }

    #[test]
    fn with_huge_pages_and_pci() {
        assert_eq!(
            words(&settings(
                true,
                &["pci:81:00.0,a=1", "memif:/m,zero-copy=yes"]
            )),
            "t --in-memory -m 64 -l 0 --file-prefix=p --no-telemetry --iova-mode=va \
             --log-level=warning -a 0000:81:00.0,a=1 --single-file-segments"
        );
    }

    #[test]
    fn wrong_settings_are_told_before_dpdk_sees_them() {
        let core = EalSettings {
            main_core: 60_000,
            ..settings(false, &[])
        };
        assert!(
            arguments(&core)
                .unwrap_err()
                .to_string()
                .contains("core 60000 does not exist")
        );
        let prefix = EalSettings {
            file_prefix: "a/b".to_owned(),
            ..settings(false, &[])
        };
        assert!(
            arguments(&prefix)
                .unwrap_err()
                .to_string()
                .contains("`a/b`")
        );
    }
}

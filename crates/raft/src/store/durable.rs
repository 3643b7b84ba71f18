//! Makes sled's flush reach the disk, and proves that it does.
//!
//! sled 0.34 flushes with `sync_file_range`, which starts writeback of file pages but commits neither the file's metadata nor
//! the disk's cache. If that call fails with `ENOSYS`, sled falls back to `fsync`. So this file defines `sync_file_range`
//! itself: a definition in the program takes precedence over libc's. Whether it really does depends on how the program was
//! linked, so every opening of a store flushes once and checks that the call arrived here; if not, the node refuses to run.

use crate::error::{Error, Result};
use crate::store::kv::{Batch, Kv};

/// Flushes something and checks that sled had to sync the file.
///
/// # Errors
/// [`Error::NotDurable`] when the flush went elsewhere.
pub(crate) fn prove(kv: &dyn Kv) -> Result<()> {
    let before = calls();
    let mut batch = Batch::default();
    // The value differs each time: sled writes nothing for a value that is the same.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    batch.put(b"meta/probe".to_vec(), now.as_nanos().to_be_bytes().to_vec());
    kv.write(batch)
        .and_then(|()| kv.flush())
        .map_err(|error| Error::store("the first flush of the log failed", error))?;
    if SYNCS_ANYWAY || calls() > before {
        return Ok(());
    }
    Err(Error::NotDurable(
        "sled's flush did not reach the program's own sync_file_range, so its data would stay in memory; the program was linked \
         in a way that lets libc's definition win"
            .into(),
    ))
}

#[cfg(not(target_os = "linux"))]
const SYNCS_ANYWAY: bool = true; // Elsewhere sled calls fsync (F_FULLFSYNC on macOS) by itself.
#[cfg(target_os = "linux")]
const SYNCS_ANYWAY: bool = false;

#[cfg(not(target_os = "linux"))]
fn calls() -> u64 {
    0
}

#[cfg(target_os = "linux")]
fn calls() -> u64 {
    // Taking the address forces the linker to take this object file, whatever order it reads libraries in.
    std::hint::black_box(interpose::sync_file_range as *const ());
    interpose::CALLS.load(std::sync::atomic::Ordering::SeqCst)
}

#[cfg(target_os = "linux")]
mod interpose {
    #![allow(
        unsafe_code,
        reason = "an exported C symbol and errno can only be had this way; nothing is dereferenced but errno"
    )]

    use std::{
        ffi::{c_int, c_uint},
        sync::atomic::{AtomicU64, Ordering},
    };

    /// How often sled asked.
    pub(super) static CALLS: AtomicU64 = AtomicU64::new(0);

    /// "Not implemented": sled then calls `fsync`.
    const ENOSYS: c_int = 38;

    unsafe extern "C" {
        /// Where this thread's `errno` is, in glibc and musl.
        fn __errno_location() -> *mut c_int;
    }

    /// Takes the place of libc's: fails, so that the caller syncs properly.
    #[unsafe(no_mangle)]
    pub(super) extern "C" fn sync_file_range(_fd: c_int, _offset: i64, _bytes: i64, _flags: c_uint) -> c_int {
        CALLS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: libc promises a valid pointer to this thread's own errno.
        unsafe { *__errno_location() = ENOSYS };
        -1
    }
}

//! Ports for processes that are started later: free now, and given to nobody else meanwhile.

use anyhow::{Context as _, Result};
use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range that Linux takes the ports of outgoing connections from (32768 and up): a port of that range that was free a
/// moment ago may be somebody's when the process comes to listen on it.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port of the loopback that nothing listens on, and that no other call in this process answers.
///
/// # Errors
/// When there is none.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes beside this one begin elsewhere.
    let start = u16::try_from(std::process::id().wrapping_mul(97) % u32::from(COUNT)).unwrap_or(0);
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .context("no free port on the loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_none_is_one_of_outgoing_connections() {
        let ports: std::collections::BTreeSet<u16> = (0..64).map(|_| free().expect("a port")).collect();
        assert_eq!(ports.len(), 64);
        assert!(ports.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)), "{ports:?}");
    }
}

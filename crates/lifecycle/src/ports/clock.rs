//! The clock port: decisions read time through it, so that simulations can turn it.

use plimsoll_types::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now, in milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
}

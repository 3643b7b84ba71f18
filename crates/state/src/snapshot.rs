//! The snapshot format: versioned MessagePack with named fields, so that adjacent releases read each other's.

use crate::State;

/// A snapshot that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the state snapshot cannot be read: {0}")]
pub struct SnapshotError(String);

impl State {
    /// Writes the state.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write_snapshot(&self, writer: &mut impl std::io::Write) -> Result<(), SnapshotError> {
        rmp_serde::encode::write_named(writer, self).map_err(|error| SnapshotError(error.to_string()))
    }

    /// Reads what [`State::write_snapshot`] wrote.
    ///
    /// # Errors
    /// When the bytes are not a snapshot of this or an adjacent release.
    pub fn read_snapshot(reader: impl std::io::Read) -> Result<Self, SnapshotError> {
        rmp_serde::decode::from_read(reader).map_err(|error| SnapshotError(error.to_string()))
    }
}

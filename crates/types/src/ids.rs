//! Ids of things: 128-bit, time-ordered and prefixed for what people see, small counters for what raft hands out.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};
use ulid::Ulid;

/// Text that is not an id of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id: expected {prefix}- and 26 letters and digits")]
pub struct InvalidId {
    kind: &'static str,
    prefix: &'static str,
    text: String,
}

macro_rules! ulid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// Makes an id from a time in milliseconds and random bits; only the caller has a clock and randomness.
            #[must_use]
            pub const fn from_parts(unix_ms: u64, random: u128) -> Self {
                Self(Ulid::from_parts(unix_ms, random))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = [0; ulid::ULID_LEN];
                let text = self.0.array_to_str(&mut buffer);
                text.make_ascii_lowercase();
                f.pad(&format!(concat!($prefix, "-{}"), text))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix(concat!($prefix, "-"))
                    .and_then(|rest| Ulid::from_string(rest).ok())
                    .map(Self)
                    .ok_or_else(|| InvalidId { kind: $kind, prefix: $prefix, text: text.chars().take(64).collect() })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    Ok(Self(Ulid(u128::deserialize(deserializer)?)))
                }
            }
        }
    };
}

ulid_id!(
    /// A sandbox; outlives every container the sandbox runs in.
    SandboxId, "sb", "sandbox"
);
ulid_id!(
    /// Something an API caller can wait for; also written on containers as the creator's mark.
    OperationId, "op", "operation"
);
ulid_id!(
    /// A snapshot: an immutable image, with the workspace in it, that a sandbox can start from.
    SnapshotId, "sn", "snapshot"
);
ulid_id!(
    /// An API key (its public half; the secret is never stored).
    KeyId, "key", "API key"
);
ulid_id!(
    /// A Plimsoll cluster; containers carry it, so two clusters can share a host.
    ClusterId, "cl", "cluster"
);

/// A host, counted by the state machine; never used again after the host is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub u32);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host-{}", self.0)
    }
}

/// A member of the control plane's raft cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_and_parse_back() {
        let id = SandboxId::from_parts(1_700_000_000_000, 42);
        let text = id.to_string();
        assert!(text.starts_with("sb-") && text.len() == 29, "{text}");
        assert_eq!(text.parse(), Ok(id));
        assert!(text.to_uppercase().parse::<SandboxId>().is_err(), "the prefix is lower case");
    }

    #[test]
    fn an_id_of_another_kind_is_refused_by_name() {
        let key = KeyId::from_parts(1, 1).to_string();
        let error = key.parse::<SandboxId>().expect_err("a key is no sandbox");
        assert!(error.to_string().contains("is not a sandbox id"), "{error}");
    }
}

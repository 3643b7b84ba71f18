//! Every error a caller can meet, by a stable code, with the one table of HTTP status and exit code.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! codes {
    ($($name:ident = $text:literal, $status:literal, $exit:ident, $doc:literal;)*) => {
        /// What went wrong, by what the caller can do about it. Codes never change their meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $doc] $name,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as it stands in problem documents.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// How the CLI exits.
            #[must_use]
            pub const fn exit(self) -> Exit {
                match self { $(Self::$name => Exit::$exit,)* }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $doc,)* }
            }
        }
    };
}

/// The CLI's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: the request was understood and failed.
    Failed = 1,
    /// 2: the request itself is wrong; mend it before trying again.
    Usage = 2,
    /// 3: the thing named does not exist.
    NotFound = 3,
    /// 4: it clashes with what exists.
    Conflict = 4,
    /// 5: no room; trying later may help.
    NoCapacity = 5,
    /// 6: not allowed.
    Denied = 6,
    /// 7: the cluster or the host cannot be reached; trying later may help.
    Unavailable = 7,
    /// 8: the node's own data folder is damaged; no restart mends it.
    Damaged = 8,
}

codes! {
    InvalidRequest = "invalid_request", 400, Usage, "The request is malformed or breaks a rule; the detail says where.";
    BodyTooLarge = "body_too_large", 413, Usage, "The body is larger than this route accepts.";
    Unauthorized = "unauthorized", 401, Denied, "The API key is missing, unknown or revoked.";
    Forbidden = "forbidden", 403, Denied, "The API key may not do this.";
    NotFound = "not_found", 404, NotFound, "There is no such route or thing.";
    MethodNotAllowed = "method_not_allowed", 405, Usage, "The route exists, but not with this method.";
    SandboxNotFound = "sandbox_not_found", 404, NotFound, "There is no such sandbox, or it belongs to another tenant.";
    HostNotFound = "host_not_found", 404, NotFound, "There is no such host.";
    KeyNotFound = "key_not_found", 404, NotFound, "There is no such API key.";
    NodeNotFound = "node_not_found", 404, NotFound, "There is no such control-plane node.";
    FileNotFound = "file_not_found", 404, NotFound, "There is no such file in the sandbox.";
    SnapshotNotFound = "snapshot_not_found", 404, NotFound, "There is no such snapshot, or it belongs to another tenant.";
    SnapshotExists = "snapshot_exists", 409, Conflict, "A snapshot of this tenant has the name.";
    SnapshotInUse = "snapshot_in_use", 409, Conflict, "A sandbox needs the snapshot to come back; terminate it first.";
    SnapshotUnusable = "snapshot_unusable", 409, Conflict, "The snapshot is not finished, or is being deleted.";
    OperationUnderWay = "operation_under_way", 409, Conflict, "Another operation on the sandbox is under way; wait for it.";
    SameHost = "same_host", 409, Conflict, "The sandbox is on that host already.";
    ArchitectureMismatch = "architecture_mismatch", 409, Conflict, "The host's architecture is another than the snapshot's.";
    RegistryMissing = "registry_missing", 503, Unavailable, "No registry is configured, so nothing can be snapshot, paused or moved.";
    RegistryUnreachable = "registry_unreachable", 502, Unavailable, "The registry does not answer.";
    RegistryFull = "registry_full", 507, NoCapacity, "The registry has no room left.";
    SnapshotFailed = "snapshot_failed", 502, Failed, "The snapshot could not be taken; the sandbox runs on.";
    MoveFailed = "move_failed", 502, Failed, "The sandbox could not be moved; it runs on where it was.";
    ImageNotFound = "image_not_found", 422, NotFound, "No registry and no host has this image.";
    SessionLive = "session_live", 409, Conflict, "The session already has a live sandbox; use ensure, or terminate it first.";
    IdempotencyMismatch = "idempotency_mismatch", 409, Conflict, "The idempotency key was used before with another request.";
    WrongPhase = "wrong_phase", 409, Conflict, "The sandbox is in a phase that does not allow this.";
    HostExists = "host_exists", 409, Conflict, "A host with this name or address exists.";
    SameMachine = "same_machine", 409, Conflict, "Another host is the same machine.";
    HostBusy = "host_busy", 409, Conflict, "The host still holds sandboxes.";
    NodeExists = "node_exists", 409, Conflict, "A node with this id or address is already a member.";
    PortClash = "port_clash", 409, Conflict, "A port to publish is taken on the host.";
    NameClash = "name_clash", 409, Conflict, "A container or volume that is not ours has the name.";
    SecretsLost = "secrets_lost", 409, Conflict, "The sandbox's secrets do not open with the cluster's secret, as after a restore that gave them up; its files can be copied out.";
    Conflict = "conflict", 409, Conflict, "The thing changed meanwhile; read it again and retry.";
    EventsGone = "events_gone", 410, Conflict, "The events asked for are no longer kept; read the present state, then stream from now.";
    NoCapacity = "no_capacity", 409, NoCapacity, "No host fits; the detail counts the reasons.";
    QueueFull = "queue_full", 429, NoCapacity, "The queue for room is full.";
    QueueTimeout = "queue_timeout", 409, NoCapacity, "No room appeared within the queue timeout.";
    QuotaExceeded = "quota_exceeded", 409, NoCapacity, "The tenant's quota is used up.";
    Overloaded = "overloaded", 429, Unavailable, "Too many requests are under way; retry with a pause.";
    HostFull = "host_full", 507, NoCapacity, "The host's disk or memory is full.";
    ImagePullFailed = "image_pull_failed", 502, Failed, "The host could not pull the image.";
    StartFailed = "start_failed", 502, Failed, "Docker could not start the container.";
    ExecFailed = "exec_failed", 422, Failed, "The command could not be started: bad user, working directory or binary.";
    FileError = "file_error", 422, Failed, "The file operation failed inside the sandbox.";
    SshUnreachable = "ssh_unreachable", 502, Unavailable, "The host's SSH port does not answer.";
    SshDenied = "ssh_denied", 502, Denied, "The host refused the key.";
    HostKeyUnknown = "host_key_unknown", 409, Usage, "The host's key is not pinned yet; confirm its fingerprint.";
    HostKeyChanged = "host_key_changed", 502, Denied, "The host shows another key than the pinned one.";
    DockerUnreachable = "docker_unreachable", 502, Unavailable, "SSH works but Docker's socket does not answer.";
    DockerTooOld = "docker_too_old", 502, Failed, "The host's Docker API is older than 1.41.";
    ClockSkew = "clock_skew", 502, Failed, "The host's clock differs too much from the control plane's.";
    HostUnavailable = "host_unavailable", 503, Unavailable, "The sandbox's host does not answer at present.";
    NoQuorum = "no_quorum", 503, Unavailable, "No leader is known or a majority of nodes is gone; retry.";
    OnHold = "on_hold", 503, Unavailable, "The cluster is on hold: nothing is started, moved or removed until an operator has looked at `plimsoll cluster drift` and says `plimsoll cluster resume`.";
    JoinDenied = "join_denied", 403, Denied, "The join token is wrong or expired.";
    StorageCorrupt = "storage_corrupt", 500, Damaged, "The data folder is damaged, foreign or behind what the node promised.";
    Unsupported = "unsupported", 501, Failed, "This release cannot do it yet.";
    Timeout = "timeout", 504, Unavailable, "It did not finish in time; it may still finish.";
    Internal = "internal", 500, Failed, "A defect of Plimsoll's; the log has more under the request id.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Code {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text).ok_or(())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A code this release does not know (from a newer node) reads as `internal`.
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse().unwrap_or(Self::Internal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_parse_back() {
        for (i, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(Code::ALL[..i].iter().all(|other| other.as_str() != code.as_str()), "{code} twice");
            assert!((400..600).contains(&code.http_status()) && code.meaning().ends_with('.'), "{code}");
        }
    }
}

//! Terminal sandboxes: made to be logged into over SSH.

use super::{
    sandbox::Provided,
    secret::{Secret, SecretMap},
};
use plimsoll_types::{ImageRef, SessionId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A terminal sandbox that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTerminal {
    /// The platform's key for it.
    #[schema(value_type = String)]
    pub session: SessionId,
    /// OpenSSH public keys that may log in, at least one.
    pub ssh_keys: Vec<String>,
    /// What it starts from; the cluster's base image if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub image: Option<ImageRef>,
    /// A snapshot to start from. Snapshots come with a later release; naming one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Passed on as the secret variable `GIT_TOKEN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_token: Option<Secret>,
    /// Secret environment.
    #[serde(default, skip_serializing_if = "SecretMap::is_empty")]
    pub env: SecretMap,
}

/// A terminal sandbox, with where to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terminal {
    /// The sandbox.
    #[serde(flatten)]
    pub provided: Provided,
    /// Where the gateway's SSH is.
    pub ssh_host: String,
    /// Its port.
    pub ssh_port: u16,
    /// The user that leads into this sandbox.
    pub ssh_user: String,
}

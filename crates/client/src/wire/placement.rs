//! Many placements in one request, and what a dry run of the placer answers.

use super::{CreateSandbox, Problem, Provided};
use plimsoll_types::HostName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Sandboxes to make with one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchPlacements {
    /// What to make: 1 to 256.
    #[schema(min_items = 1, max_items = 256)]
    pub sandboxes: Vec<CreateSandbox>,
}

/// What became of each, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchPlaced {
    /// One for each sandbox that was asked for.
    pub results: Vec<BatchResult>,
}

/// What became of one of a batch: each stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchResult {
    /// It was placed, or its idempotency key had placed it.
    Provided(Box<Provided>),
    /// It was not, and why.
    Problem(Box<Problem>),
}

/// Where a sandbox would go now, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The host that would be chosen; absent if none fits.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub chosen: Option<HostName>,
    /// One sentence: where and why there, or why nowhere.
    #[schema(example = "no host fits 2 vCPU, 3 GiB: 7 lack memory, 3 cordoned, 1 unreachable")]
    pub sentence: String,
    /// Every host: those that fit, best first, then the rejected ones.
    pub hosts: Vec<HostVerdict>,
}

/// What a dry run says of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostVerdict {
    /// Which.
    #[schema(value_type = String)]
    pub host: HostName,
    /// Its dominant share after placing, in millionths; lower is better. Absent if it was rejected.
    #[serde(default)]
    pub score_ppm: Option<u64>,
    /// Why it was rejected.
    #[serde(default)]
    pub rejection: Option<String>,
}

//! Opening the way to the registry before it is needed: the forward is a login of its own, and takes as long as a small push.

use super::super::Api;
use crate::registry::Client;

/// Opens it, if it is not; it stays open for a while. Whoever needs it tries again, so a failure is only told to who looks closely.
pub(crate) async fn make_ready(api: &Api, registry: Option<&Client>) {
    let Some(Ok(place)) = registry.map(Client::place) else { return };
    if let Err(error) = api.access.registry(place).await {
        tracing::debug!(host = api.name, %error, "the registry is not forwarded ahead");
    }
}

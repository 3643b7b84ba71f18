//! All of an image in one layer, made on the host itself.

use super::{
    super::{Api, raw},
    local,
    progress::Progress,
};
use crate::{access::Class, error};
use bytes::Bytes;
use plimsoll_lifecycle::{
    naming::label,
    ports::{CommitPlan, HostError},
};
use plimsoll_types::Code;
use tar::{Builder, Header};

/// Replaces an image by one that has the same files in a single layer. Its configuration is that of an empty image: the seal sets it.
pub(super) async fn squash(api: &Api, plan: &CommitPlan, image: &str) -> Result<(), HostError> {
    let before = local::inspect(api, image).await?.and_then(|found| found.id).unwrap_or_default();
    let labels = serde_json::json!({
        label::CLUSTER: plan.cluster.to_string(),
        label::SANDBOX: plan.sandbox.to_string(),
        label::GENERATION: "",
    });
    let context = context(image).map_err(|error| {
        error::transient(Code::Internal, format!("the context of a build could not be written: {error}"))
    })?;
    // The classic builder: it needs nothing from any registry, and keeps owners between stages.
    let path = format!(
        "/build?version=1&rm=1&forcerm=1&networkmode=none&t={}&labels={}",
        escape(image),
        escape(&labels.to_string())
    );
    let build = |path: String| raw::post(&path, &[("content-type", "application/x-tar")], context);
    let response = api.stream(Class::Stream, build, &path).await.map_err(|e| error::docker("squash an image", e))?;
    Progress::new(response).finish().await.map_err(|e| error::docker("squash an image", e))?;
    let after = local::inspect(api, image).await?.and_then(|found| found.id).unwrap_or_default();
    if before == after || after.is_empty() {
        return Err(error::transient(
            Code::SnapshotFailed,
            format!("{image} was squashed on {} and is as it was", api.name),
        ));
    }
    local::untag(api, &before).await
}

fn context(image: &str) -> std::io::Result<Bytes> {
    let text = format!("FROM {image} AS all\nFROM scratch\nCOPY --from=all / /\n");
    let mut archive = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, "Dockerfile", text.as_bytes())?;
    archive.into_inner().map(Bytes::from)
}

/// A value of a query, percent-encoded.
pub(super) fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}

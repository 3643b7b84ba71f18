//! Backups, the hold and drift, for operators.

use crate::{auth::Operator, convert::drift, error::Answer, extract::Json, options::Api, streams};
use axum::{extract::State, http::StatusCode, response::Response};
use bytes::Bytes;
use futures_util::stream;
use plimsoll_client::wire;
use plimsoll_engine::Backup;
use plimsoll_lifecycle::ports::{HostError, HostFailure};
use plimsoll_types::Code;
use std::io::{self, BufWriter, Write};
use tokio::sync::mpsc;

/// Bytes of one piece of a backup.
const PIECE: usize = 64 << 10;
/// Pieces that wait for a slow reader: with this many, writing waits.
const PIECES: usize = 8;

/// A copy of the cluster's state, as a file for `plimsoll cluster restore`.
///
/// Everything that was acknowledged before is in it. It holds hashes of API keys, and environments sealed with the cluster's secret, which is
/// not in it. Its end is a checksum of all before: a copy that broke off is noticed.
#[utoipa::path(
    get, path = "/v1/cluster/backup", tag = "cluster", operation_id = "backupCluster",
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)),
)]
pub(crate) async fn backup(State(api): State<Api>, _: Operator) -> Answer<Response> {
    let backup = api.options.operations.backup().await?;
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || write(&backup, sender));
    let pieces = stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) });
    streams::respond_at_once(&api, Box::pin(pieces))
}

type Piece = Result<Bytes, HostError>;

fn write(backup: &Backup, sender: mpsc::Sender<Piece>) {
    let mut writer = BufWriter::with_capacity(PIECE, Pieces(sender.clone()));
    let written = plimsoll_state::backup::write(&backup.header, &backup.state, &mut writer);
    if let Err(error) = written {
        // A body that breaks off; if the reader has gone, nobody hears it.
        let broken = HostError::new(HostFailure::Permanent, Code::Internal, error.to_string());
        let _gone = sender.blocking_send(Err(broken));
    }
}

/// Writes into a channel; a reader that went away is a broken pipe.
struct Pieces(mpsc::Sender<Piece>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Put the cluster on hold: nothing is started, moved or removed, and whatever is under way stops, until it is resumed.
#[utoipa::path(
    post, path = "/v1/cluster/hold", tag = "cluster", operation_id = "holdCluster", request_body = wire::HoldCluster,
    responses((status = 204, description = "It is on hold")),
)]
pub(crate) async fn hold(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::HoldCluster>,
) -> Answer<StatusCode> {
    api.options.operations.hold_cluster(&body.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End a hold: the leader makes hosts as state says. Refused with `conflict` while something is not settled, unless forced.
///
/// No sandbox expires within the first 30 minutes: state may be older than what was extended since.
#[utoipa::path(
    post, path = "/v1/cluster/resume", tag = "cluster", operation_id = "resumeCluster", request_body = wire::ResumeCluster,
    responses((status = 204, description = "It is on hold no more")),
)]
pub(crate) async fn resume(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::ResumeCluster>,
) -> Answer<StatusCode> {
    api.options.operations.resume_cluster(body.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Compare what all hosts hold with what state says. Changes nothing.
#[utoipa::path(
    get, path = "/v1/cluster/drift", tag = "cluster", operation_id = "clusterDrift",
    responses((status = 200, body = wire::Drift)),
)]
pub(crate) async fn drift_report(State(api): State<Api>, _: Operator) -> Answer<axum::Json<wire::Drift>> {
    Ok(axum::Json(drift::report(api.options.operations.drift().await?)))
}

/// Settle what is named, on hold only, and compare again. Done twice is done once.
#[utoipa::path(
    post, path = "/v1/cluster/drift", tag = "cluster", operation_id = "settleDrift", request_body = wire::SettleDrift,
    responses((status = 200, body = wire::Drift)),
)]
pub(crate) async fn settle(
    State(api): State<Api>,
    _: Operator,
    Json(body): Json<wire::SettleDrift>,
) -> Answer<axum::Json<wire::Drift>> {
    Ok(axum::Json(drift::report(api.options.operations.settle(drift::wish(body)).await?)))
}

//! Serving on a listener until told to stop, and stopping within a bounded time.

use crate::{limits, listener::Bounded, options::Options, router::router};
use std::future::IntoFuture;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener broke.
    #[error("the HTTP listener failed")]
    Listener(#[source] std::io::Error),
}

/// Serves until `shutdown`; then takes no new requests, ends streams, and waits up to 10 s for what is under way.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(options: Options, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let listener = Bounded::new(listener, options.max_connections);
    let service = router(options, shutdown.clone()).into_make_service();
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(limits::DRAIN).await;
    };
    tokio::select! {
        served = serving.into_future() => served.map_err(Error::Listener),
        () = overdue => {
            tracing::warn!("requests were still under way 10 s after the shutdown began; they were cut off");
            Ok(())
        }
    }
}

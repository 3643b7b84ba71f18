//! What stands in where the binary was built without the feature `otlp`: it refuses to be configured.

use crate::config::Config;
use anyhow::{Result, ensure};
use plimsoll_api::ContinueTrace;
use tracing::Subscriber;
use tracing_subscriber::Layer;

/// There is none.
pub(crate) enum Export {}

impl Export {
    /// Refuses a collector: one that is configured and gets nothing would be looked for in the wrong place.
    ///
    /// # Errors
    /// When one is configured.
    pub(crate) fn begin(config: &Config) -> Result<Option<Self>> {
        ensure!(
            config.log.otlp.is_none(),
            "log.otlp (or OTEL_EXPORTER_OTLP_ENDPOINT) names a collector, and this plimsoll was built without the feature otlp"
        );
        Ok(None)
    }

    pub(super) fn layer<S: Subscriber>(&self) -> Box<dyn Layer<S> + Send + Sync> {
        match *self {}
    }

    pub(super) fn continue_trace(&self) -> ContinueTrace {
        match *self {}
    }

    pub(crate) fn end(&self) {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Log;

    #[test]
    fn a_collector_is_refused_by_name() {
        assert!(Export::begin(&Config::default()).expect("nothing to refuse").is_none());
        let log = Log { otlp: Some("http://127.0.0.1:4318".into()), ..Log::default() };
        let refused = Export::begin(&Config { log, ..Config::default() }).err().expect("refused");
        assert!(format!("{refused:#}").contains("built without the feature otlp"), "{refused:#}");
    }
}

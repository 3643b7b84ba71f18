//! Spans to an OpenTelemetry collector, over OTLP/HTTP: requests, what the leader was asked, jobs on hosts. What is exported passed the log's
//! filter and its cap first, so nothing goes out that could not be logged. A collector that is gone costs spans and nothing else.

use crate::config::Config;
use anyhow::{Context as _, Result, ensure};
use opentelemetry::{KeyValue, propagation::TextMapPropagator as _, trace::TracerProvider as _};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter},
};
use plimsoll_api::ContinueTrace;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

/// Where a collector takes traces, below the address that is configured.
const PATH: &str = "/v1/traces";
/// How long a collector may take for a batch: longer ones would keep the spans of the next seconds in the queue.
const SENDING: Duration = Duration::from_secs(5);
/// Spans that wait at most, about a kilobyte each; what comes while so many wait is lost.
const QUEUE: usize = 4096;
/// How long the end of the node waits for what is left to go out.
const FLUSH: Duration = Duration::from_secs(5);

/// What sends spans.
pub(crate) struct Export(SdkTracerProvider);

impl Export {
    /// Begins to send, if a collector is configured.
    ///
    /// # Errors
    /// When its address is none.
    pub(crate) fn begin(config: &Config) -> Result<Option<Self>> {
        let Some(address) = config.log.otlp.as_deref() else { return Ok(None) };
        ensure!(
            address.starts_with("http://") || address.starts_with("https://"),
            "log.otlp: {address:?} is no address of a collector, such as http://127.0.0.1:4318"
        );
        // The exporter's HTTP client brings no cryptography of its own; another one that is installed already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = address.trim_end_matches('/');
        let endpoint = if address.ends_with(PATH) { address.to_owned() } else { format!("{address}{PATH}") };
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = exporter.with_endpoint(endpoint).with_timeout(SENDING).build().context("log.otlp")?;
        let said = Telling { exporter, failing: AtomicBool::new(false) };
        let limits = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        let batches = BatchSpanProcessor::builder(said).with_batch_config(limits).build();
        // A node that is about to be made has no number yet.
        let node = plimsoll_raft::Node::peek(&config.data_dir()).map(|(_, node)| node.to_string());
        let instance = KeyValue::new("service.instance.id", node.unwrap_or_else(|_| config.api_url()));
        let resource = Resource::builder().with_service_name("plimsoll").with_attribute(instance).build();
        Ok(Some(Self(SdkTracerProvider::builder().with_span_processor(batches).with_resource(resource).build())))
    }

    /// What turns spans of ours into exported ones. Libraries' own are left out: some last as long as the process.
    pub(super) fn layer<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let tracer = self.0.tracer("plimsoll");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        Box::new(layer.with_filter(FilterFn::new(|about| about.target().starts_with("plimsoll"))))
    }

    /// What reads a caller's `traceparent`. One that is malformed begins a trace of its own, as none does.
    pub(super) fn continue_trace(&self) -> ContinueTrace {
        Arc::new(|span, parent| {
            let carrier = HashMap::from([("traceparent".to_owned(), parent.to_owned())]);
            // A span that the log's filter leaves out has no place in a trace.
            let _left_out = span.set_parent(TraceContextPropagator::new().extract(&carrier));
        })
    }

    /// Sends what is left, for as long as the bound allows. It blocks.
    pub(crate) fn end(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

/// Says once when spans cannot be exported any more, and once when they are again.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "spans are lost: the collector (log.otlp) does not take them");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Log;
    use std::sync::Mutex;

    /// Keeps what is exported.
    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().expect("no panic").extend(batch);
            Ok(())
        }
    }

    #[test]
    fn nothing_is_exported_that_may_not_be_logged() {
        for level in ["trace", "bollard=trace,plimsoll=trace,info"] {
            let kept = Kept::default();
            let export = Export(SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build());
            let log = Log { level: level.into(), ..Log::default() };
            let (subscriber, _) =
                super::super::subscriber(&log, Some(&export), false, std::io::sink).expect("a filter");
            tracing::subscriber::with_default(subscriber, || {
                let _ours = tracing::info_span!(target: "plimsoll_api::observe", "http", request = "req-7").entered();
                tracing::info!(target: "plimsoll_engine", sandbox = "sb-1", "placed");
                tracing::debug!(target: "bollard::docker", "body: hunter2");
                tracing::warn!(target: "bollard::docker", "body: hunter2");
                let _theirs = tracing::debug_span!(target: "bollard::docker", "call", body = "hunter2").entered();
                let _eternal = tracing::error_span!(target: "openraft::core", "raft", id = 1).entered();
            });
            let kept = kept.0.lock().expect("no panic");
            let names: Vec<&str> = kept.iter().map(|span| span.name.as_ref()).collect();
            assert_eq!(names, ["http"], "{level}");
            let all = format!("{kept:?}");
            assert!(all.contains("req-7") && all.contains("placed") && all.contains("sb-1"), "{level}: {all}");
            assert!(!all.contains("hunter2"), "{level}: {all}");
        }
    }

    #[test]
    fn an_address_without_a_scheme_is_refused() {
        let log = Log { otlp: Some("127.0.0.1:4318".into()), ..Log::default() };
        let refused = Export::begin(&Config { log, ..Config::default() }).err().expect("refused");
        assert!(format!("{refused:#}").contains("log.otlp"), "{refused:#}");
    }
}

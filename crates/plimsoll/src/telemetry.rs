//! Logs, spans and metrics of one process: the only place that installs a subscriber or a recorder.

#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "telemetry/without_otlp.rs"]
mod otlp;

use crate::config::{Config, Log, LogFormat};
use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use otlp::Export;
use plimsoll_api::{ContinueTrace, LogFilter};
use std::{
    io::IsTerminal as _,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::FilterFn,
    fmt::{self, MakeWriter},
    layer::{Layered, SubscriberExt as _},
    registry::Registry,
    reload,
    util::SubscriberInitExt as _,
};

/// Bounds of every latency histogram in seconds: from a placement in memory to an image pull.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 180.0,
];
/// Bounds of histograms that count entries in a batch.
const ENTRIES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
/// Below info these log whole bodies, packets and messages, environments of containers among them; whatever the filter says, they do not.
const NEVER_BELOW_INFO: [&str; 6] = ["bollard", "hyper", "hyper_util", "russh", "tokio_tungstenite", "tungstenite"];
/// The filter of the installed subscriber.
static FILTER: OnceLock<Arc<dyn LogFilter>> = OnceLock::new();
/// What sends the installed subscriber's spans, if a collector is configured.
static EXPORT: OnceLock<Export> = OnceLock::new();
/// How often the recorder folds what histograms collected, so that they cannot grow while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Sends log lines to stderr, and spans to the collector if one is configured.
///
/// # Errors
/// When the filter or the collector's address is invalid, or a subscriber is installed already.
pub fn install_logs(config: &Config) -> Result<()> {
    let export = Export::begin(config)?;
    let ansi = std::io::stderr().is_terminal();
    let (subscriber, filter) = subscriber(&config.log, export.as_ref(), ansi, std::io::stderr)?;
    subscriber.try_init().map_err(|error| anyhow::anyhow!("logging cannot be set up: {error}"))?;
    let _ = FILTER.set(filter);
    if let Some(export) = export {
        let _ = EXPORT.set(export);
    }
    Ok(())
}

/// Sends the spans that are left, for a few seconds at most.
pub async fn end() {
    // It blocks; that it could not be waited for is no news to anybody.
    let _ended = tokio::task::spawn_blocking(|| EXPORT.get().map(Export::end)).await;
}

/// What is logged, to be changed while the process runs; `None` before [`install_logs`].
pub fn log_filter() -> Option<Arc<dyn LogFilter>> {
    FILTER.get().cloned()
}

/// What makes a request's span part of its caller's trace; `None` where spans go nowhere.
pub fn continue_trace() -> Option<ContinueTrace> {
    EXPORT.get().map(Export::continue_trace)
}

/// What turns events into lines, and the handle that changes its filter. The cap comes first and is no part of the filter, so
/// that no filter can lift it.
fn subscriber<W>(
    log: &Log,
    export: Option<&Export>,
    ansi: bool,
    writer: W,
) -> Result<(Box<dyn Subscriber + Send + Sync>, Arc<dyn LogFilter>)>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = parsed(&log.level).map_err(|why| anyhow::anyhow!("log.level: {why}"))?;
    let (filter, handle) = reload::Layer::<EnvFilter, Capped>::new(filter);
    let capped: fn(&Metadata<'_>) -> bool = |about| *about.level() <= Level::INFO || !is_capped(about.target());
    let registry = tracing_subscriber::registry().with(FilterFn::new(capped)).with(filter);
    let layer = fmt::layer().with_writer(writer);
    let subscriber: Box<dyn Subscriber + Send + Sync> = match log.format {
        LogFormat::Pretty => {
            Box::new(registry.with(layer.with_target(false).with_ansi(ansi)).with(export.map(Export::layer)))
        }
        LogFormat::Json => Box::new(registry.with(layer.json().flatten_event(true)).with(export.map(Export::layer))),
    };
    Ok((subscriber, Arc::new(Reloaded { handle })))
}

/// What the filter lies on: the cap.
type Capped = Layered<FilterFn<fn(&Metadata<'_>) -> bool>, Registry>;

/// The filter of one subscriber.
struct Reloaded {
    handle: reload::Handle<EnvFilter, Capped>,
}

impl LogFilter for Reloaded {
    fn filter(&self) -> String {
        self.handle.with_current(ToString::to_string).unwrap_or_default()
    }

    fn set_filter(&self, filter: &str) -> Result<(), String> {
        self.handle.reload(parsed(filter)?).map_err(|error| error.to_string())
    }
}

/// A filter, or why it is none. Nothing at all is refused: it would mean errors only, and nobody who wants that writes it so.
fn parsed(text: &str) -> Result<EnvFilter, String> {
    if text.trim().is_empty() {
        return Err("the filter is empty".to_owned());
    }
    EnvFilter::try_new(text).map_err(|error| format!("{text:?} is no filter: {error}"))
}

/// Whether a target is one of the capped crates or lies in one.
fn is_capped(target: &str) -> bool {
    NEVER_BELOW_INFO
        .iter()
        .any(|name| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

/// Installs the process's metrics recorder and keeps it tidy for as long as the runtime lives.
///
/// # Errors
/// When a recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_entries".into()), ENTRIES))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_batch_size".into()), ENTRIES))
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics cannot be set up")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_filter_makes_the_capped_crates_talk() {
        for level in ["trace", "bollard=trace,russh=debug,info", "bollard::docker[request]=trace,warn"] {
            for format in [LogFormat::Pretty, LogFormat::Json] {
                let (kept, log) = (Kept::default(), Log { format, level: level.into(), otlp: None });
                let writer = kept.clone();
                let (subscriber, _) = subscriber(&log, None, false, move || writer.clone()).expect("a filter");
                tracing::subscriber::with_default(subscriber, || {
                    let _span = tracing::info_span!(target: "bollard::docker", "request").entered();
                    tracing::debug!(target: "bollard::docker", "body: PASSWORD=hunter2");
                    tracing::trace!(target: "russh", "packet: hunter2");
                    tracing::debug!(target: "hyper_util::client", "hunter2");
                    tracing::trace!(target: "tungstenite::protocol", "message: hunter2");
                    tracing::warn!(target: "bollard::docker", "heard");
                });
                let said = String::from_utf8(kept.0.lock().expect("no panic").clone()).expect("text");
                assert!(!said.contains("hunter2"), "{level}: {said}");
                assert!(said.contains("heard"), "{level}: {said}");
            }
        }
    }

    #[test]
    fn a_filter_changed_at_run_time_holds_at_once_and_lifts_no_cap() {
        let (kept, log) = (Kept::default(), Log { format: LogFormat::Json, level: "info".into(), otlp: None });
        let writer = kept.clone();
        let (subscriber, filter) = subscriber(&log, None, false, move || writer.clone()).expect("a filter");
        tracing::subscriber::with_default(subscriber, || {
            let say = |text: &str| {
                tracing::debug!(target: "plimsoll_engine", "{text}");
                tracing::trace!(target: "bollard::docker", "hunter2");
            };
            say("not heard");
            filter.set_filter("plimsoll_engine=debug,bollard=trace,warn").expect("a filter");
            say("heard");
            assert_eq!(filter.filter().split(',').filter(|part| *part == "warn").count(), 1, "{}", filter.filter());
            for wrong in ["", "  ", "plimsoll_engine=loud", "=,=", "a=b=c"] {
                assert!(filter.set_filter(wrong).is_err(), "{wrong:?}");
            }
            say("still heard");
            filter.set_filter("error").expect("a filter");
            say("no more");
        });
        let said = String::from_utf8(kept.0.lock().expect("no panic").clone()).expect("text");
        assert!(said.contains("heard") && said.contains("still heard"), "{said}");
        assert!(!said.contains("not heard") && !said.contains("no more") && !said.contains("hunter2"), "{said}");
    }

    #[test]
    fn whole_crates_are_capped_and_others_are_not() {
        assert!(is_capped("bollard") && is_capped("bollard::docker") && is_capped("russh::client"));
        assert!(!is_capped("bollards") && !is_capped("plimsoll_host::docker"));
    }
}

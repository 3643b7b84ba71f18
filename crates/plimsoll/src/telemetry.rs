//! Logs and metrics of one process: the only place that installs a subscriber or a recorder.

use crate::config::{Log, LogFormat};
use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{io::IsTerminal as _, time::Duration};
use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// Bounds of every latency histogram in seconds: from a placement in memory to an image pull.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 180.0,
];
/// Bounds of histograms that count entries in a batch.
const ENTRIES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
/// At debug these log whole bodies and packets, environments of containers among them; whatever the filter says, they do not.
const NEVER_BELOW_INFO: [&str; 4] = ["bollard", "hyper", "hyper_util", "russh"];
/// How often the recorder folds what histograms collected, so that they cannot grow while nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Sends log lines to stderr.
///
/// # Errors
/// When the filter is invalid or a subscriber is installed already.
pub fn install_logs(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.level).with_context(|| format!("log.level {:?} is no filter", log.level))?;
    let capped = filter_fn(|about| *about.level() <= Level::INFO || !is_capped(about.target()));
    let registry = tracing_subscriber::registry().with(capped).with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Pretty => {
            registry.with(layer.with_target(false).with_ansi(std::io::stderr().is_terminal())).try_init()
        }
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!("logging cannot be set up: {error}"))
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
    use super::is_capped;

    #[test]
    fn whole_crates_are_capped_and_others_are_not() {
        assert!(is_capped("bollard") && is_capped("bollard::docker") && is_capped("russh::client"));
        assert!(!is_capped("bollards") && !is_capped("plimsoll_host::docker"));
    }
}

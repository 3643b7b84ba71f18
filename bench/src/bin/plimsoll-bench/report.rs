//! What an experiment found: a table for people, JSON for programs and bars for a page, each with the machine it ran on.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use std::{fmt::Write as _, io::Write as _, path::Path, process::Command};

/// One experiment's findings.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Its name, which is also its files'.
    pub name: String,
    /// What was measured.
    pub title: String,
    /// Where.
    pub machine: Machine,
    /// The table's head.
    pub columns: Vec<String>,
    /// The table.
    pub rows: Vec<Vec<String>>,
    /// Sentences: aims that were met or missed, and what the numbers do not say.
    pub notes: Vec<String>,
    /// The bars.
    pub chart: Chart,
    /// Every repeat of every measurement.
    pub raw: Value,
}

/// Bars with whiskers.
#[derive(Debug, Default, Serialize)]
pub struct Chart {
    /// What the bars' length is, with its unit.
    pub unit: String,
    /// The bars from the top.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Serialize)]
pub struct Bar {
    /// What it is for.
    pub label: String,
    /// Whether it is ours.
    pub ours: bool,
    /// The median of the repeats.
    pub value: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Bar {
    /// The bar of some repeats.
    pub fn of(label: impl Into<String>, ours: bool, values: &[f64]) -> Self {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(0.0, f64::max);
        Self { label: label.into(), ours, value: crate::load::median(values), low, high }
    }
}

/// `middle (low–high)`, as the tables show repeats.
pub fn spread(values: &[f64]) -> String {
    let bar = Bar::of("", false, values);
    let digits = if bar.value >= 100.0 {
        0
    } else if bar.value >= 10.0 {
        1
    } else {
        2
    };
    format!("{:.digits$} ({:.digits$}–{:.digits$})", bar.value, bar.low, bar.high)
}

/// Where numbers come from.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor and how many of it.
    pub cpu: String,
    /// Memory.
    pub memory: String,
    /// The kernel.
    pub kernel: String,
    /// Load averages when the experiment began: what else ran.
    pub load_before: String,
    /// The compiler.
    pub rust: String,
    /// Docker.
    pub docker: String,
    /// etcd.
    pub etcd: String,
    /// What was built.
    pub commit: String,
    /// When.
    pub at: String,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let dirty = if said("git", &["status", "--porcelain"]).is_empty() { "" } else { " with changes" };
        Self {
            cpu: format!("{cpus} × {}", field(&read("/proc/cpuinfo"), "model name")),
            memory: field(&read("/proc/meminfo"), "MemTotal"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").trim().to_owned(),
            rust: said("rustc", &["--version"]),
            docker: said("docker", &["--version"]),
            etcd: said("etcd", &["--version"]).lines().next().unwrap_or_default().to_owned(),
            commit: format!("{}{dirty}", said("git", &["rev-parse", "--short", "HEAD"])),
            at: said("date", &["--utc", "+%Y-%m-%d %H:%M UTC"]),
        }
    }
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

impl Report {
    /// Prints the table and writes `<name>.md`, `.json` and `.svg`.
    pub fn publish(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let table = self.markdown();
        let files = [("md", table.clone()), ("json", serde_json::to_string_pretty(self)? + "\n"), ("svg", self.svg())];
        for (ending, text) in files {
            let path = folder.join(format!("{}.{ending}", self.name));
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        writeln!(std::io::stdout(), "{table}").context("cannot print")
    }

    fn markdown(&self) -> String {
        let mut text = format!("### {}: {}\n\n", self.name, self.title);
        let _ = writeln!(text, "| {} |", self.columns.join(" | "));
        let _ = writeln!(text, "|{}", " --- |".repeat(self.columns.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        let at = &self.machine;
        let _ = writeln!(
            text,
            "\n{}; {}, {}, Linux {}, load before: {}; {}; {}; {}; commit {}",
            at.at, at.cpu, at.memory, at.kernel, at.load_before, at.rust, at.docker, at.etcd, at.commit
        );
        text
    }

    fn svg(&self) -> String {
        const LEFT: f64 = 280.0;
        const WIDE: f64 = 480.0;
        const STEP: f64 = 26.0;
        let bars = &self.chart.bars;
        let most = bars.iter().map(|bar| bar.high).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        #[allow(clippy::cast_precision_loss)] // a few dozen bars
        let (height, x) = (bars.len() as f64 * STEP + 70.0, |value: f64| LEFT + value / most * WIDE);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 880 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"880\" height=\"{height}\" fill=\"white\"/>\n\
             <text x=\"16\" y=\"24\" font-size=\"16\">{}</text>\n<text x=\"16\" y=\"42\" fill=\"#666\">{}; whiskers: least and most of the repeats</text>\n",
            escaped(&self.title),
            escaped(&self.chart.unit)
        );
        for (index, bar) in bars.iter().enumerate() {
            #[allow(clippy::cast_precision_loss)] // likewise
            let y = 56.0 + index as f64 * STEP;
            let (middle, color) = (y + 9.0, if bar.ours { "#1f6f8b" } else { "#b0b7bd" });
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"18\" fill=\"{color}\"/>\
                 <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#222\"/><text x=\"{:.1}\" y=\"{}\">{:.2}</text>",
                LEFT - 8.0,
                y + 13.0,
                escaped(&bar.label),
                x(bar.value) - LEFT,
                x(bar.low),
                x(bar.high),
                x(bar.high) + 6.0,
                y + 13.0,
                bar.value
            );
        }
        svg + "</svg>\n"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

//! The layers are law: which crate may name which, which heavy dependency has one owner, what a pure crate may use, and
//! how every source file opens. Reads `cargo metadata` and the tree; builds nothing.

#![allow(clippy::expect_used)] // every function here is part of a test

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

/// Which of our crates each crate may name, outside tests. Arrows point down only.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("placement", &["types"]),
    ("state", &["types"]),
    ("lifecycle", &["types", "state"]),
    ("raft", &["types", "state", "lifecycle"]),
    ("host", &["types", "lifecycle"]),
    ("engine", &["types", "placement", "state", "lifecycle"]),
    ("client", &["types"]),
    ("api", &["types", "placement", "state", "lifecycle", "engine", "client"]),
    ("gateway", &["types", "state", "lifecycle", "engine"]),
    ("plimsoll", &["types", "state", "lifecycle", "raft", "host", "engine", "client", "api", "gateway"]),
    ("testkit", &["types", "placement", "state", "lifecycle"]),
];

/// Heavy dependencies and the only crates that may name them, outside tests.
const OWNERS: &[(&str, &[&str])] = &[
    ("openraft", &["raft"]),
    ("sled", &["raft"]),
    ("rcgen", &["raft"]),
    ("bollard", &["host"]),
    ("russh", &["host", "gateway"]),
    ("axum", &["api"]),
    ("utoipa-axum", &["api"]),
    ("utoipa", &["api", "client"]),
    ("reqwest", &["client"]),
    ("tokio-tungstenite", &["client"]),
    ("clap", &["plimsoll"]),
    ("clap_complete", &["plimsoll"]),
    ("tracing-subscriber", &["plimsoll"]),
    ("metrics-exporter-prometheus", &["plimsoll"]),
    ("mimalloc", &["plimsoll"]),
    ("opentelemetry", &["plimsoll"]),
    ("opentelemetry-otlp", &["plimsoll"]),
    ("opentelemetry_sdk", &["plimsoll"]),
    ("tracing-opentelemetry", &["plimsoll"]),
];

/// Everything a pure crate may name besides our own: no runtime, clock, randomness or I/O among it.
const PURE: &[(&str, &[&str])] = &[
    ("types", &["serde", "thiserror", "ulid"]),
    ("placement", &["serde", "thiserror"]),
    ("state", &["rmp-serde", "serde", "sha2", "thiserror"]),
    ("lifecycle", &["async-trait", "bytes", "futures-core", "serde", "thiserror"]),
];

/// A file longer than this is two rooms.
const MAX_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Normal dependencies of each package, by package name.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("dependencies");
            let normal = dependencies.iter().filter(|dependency| dependency["kind"].is_null());
            (text(&package["name"]), normal.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

fn short(package: &str) -> &str {
    package.strip_prefix("plimsoll-").unwrap_or(package)
}

#[test]
fn arrows_point_down_only() {
    let mut broken = Vec::new();
    let dev_only = ["testkit", "tests", "bench"];
    for (package, dependencies) in dependencies() {
        let name = short(&package);
        let Some((_, allowed)) = MAY_NAME.iter().find(|(crate_, _)| *crate_ == name) else {
            assert!(
                ["tests", "bench"].contains(&name),
                "{package} is in no layer: add it to MAY_NAME and docs/architecture.md"
            );
            continue;
        };
        for dependency in dependencies.iter().filter(|dependency| dependency.starts_with("plimsoll")) {
            let dependency = short(dependency);
            if !allowed.contains(&dependency) || dev_only.contains(&dependency) {
                broken.push(format!("{name} names {dependency}; it may name {allowed:?}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn heavy_dependencies_have_one_owner() {
    let mut broken = Vec::new();
    for (package, dependencies) in dependencies() {
        let name = short(&package);
        for (heavy, owners) in OWNERS {
            if dependencies.contains(*heavy)
                && !owners.contains(&name)
                && MAY_NAME.iter().any(|(crate_, _)| *crate_ == name)
            {
                broken.push(format!("{name} names {heavy}, which belongs to {owners:?}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_crates_stay_pure() {
    let all = dependencies();
    let mut broken = Vec::new();
    for (name, allowed) in PURE {
        let dependencies = &all[&format!("plimsoll-{name}")];
        for dependency in dependencies.iter().filter(|dependency| !dependency.starts_with("plimsoll")) {
            if !allowed.contains(&dependency.as_str()) {
                broken.push(format!("{name} is pure and names {dependency}"));
            }
        }
        let bans = std::fs::read_to_string(root().join("crates").join(name).join("clippy.toml")).unwrap_or_default();
        for ban in ["std::time::Instant::now", "std::time::SystemTime::now", "std::collections::HashMap"] {
            if !bans.contains(ban) {
                broken.push(format!("crates/{name}/clippy.toml does not ban {ban}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_is_one_room() {
    let mut broken = Vec::new();
    let mut folders: Vec<PathBuf> = ["crates", "tests", "bench"].iter().map(|top| root().join(top)).collect();
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of ours is readable") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                seen += 1;
                let text = std::fs::read_to_string(&path).expect("source is UTF-8");
                let shown = path.strip_prefix(root()).unwrap_or(&path).display();
                if !text.starts_with("//!") {
                    broken.push(format!("{shown} does not open with //!"));
                }
                if text.lines().count() > MAX_LINES {
                    broken.push(format!("{shown} has {} lines; {MAX_LINES} is a room", text.lines().count()));
                }
            }
        }
    }
    assert!(seen > 50, "the walk found only {seen} files");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

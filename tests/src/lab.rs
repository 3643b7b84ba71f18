//! Whether the real lab can run here: skipped with one loud line on a person's machine, never in CI.

use plimsoll_testkit::lab::Lab;
use std::io::Write as _;

/// Whether to go on with a test that needs the lab.
///
/// # Panics
/// In CI (`CI=true`) where the lab cannot run: a skip there would hide everything.
#[must_use]
#[allow(clippy::panic)] // a suite that cannot run in CI must fail, and this is its only way to
pub fn available(suite: &str) -> bool {
    let Err(why) = Lab::supported().and_then(|()| tools()) else { return true };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{suite} cannot run in CI: {why}");
    let _ = writeln!(std::io::stderr(), "\n=== SKIPPED {suite}: {why} ===\n");
    false
}

/// What the suites call besides the lab's own tools.
fn tools() -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |tool: &&str| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    let missing: Vec<&str> =
        ["curl", "jq", "prometheus", "promtool", "script"].into_iter().filter(|tool| !has(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("missing: {}; run deploy/lab/install-tools.sh", missing.join(", ")))
}

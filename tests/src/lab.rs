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
    let Err(why) = Lab::supported() else { return true };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{suite} cannot run in CI: {why}");
    let _ = writeln!(std::io::stderr(), "\n=== SKIPPED {suite}: {why} ===\n");
    false
}

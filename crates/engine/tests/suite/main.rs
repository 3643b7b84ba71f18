//! The engine against simulated hosts and a simulated control plane, in virtual time.
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is the report")]
#![allow(missing_docs, unreachable_pub, reason = "tests say what they are by their names")]

mod creating;
mod ending;
mod failing;
mod holding;
mod hosts;
mod leading;
mod losing;
mod outliving;
mod panicking;
mod placing;
mod pulling;
mod scraping;
mod secrets;
mod tidying;
mod world;

//! The engine on three simulated nodes against simulated hosts, in virtual time: seeded chaos, and each known mishap by itself.
//!
//! A failing seed prints the command that runs it alone. What happens and what goes wrong comes from the seed; ids and the order in
//! which tokio polls ready tasks do not, so a rare failure may need the seed to be run a few times.

#![allow(clippy::expect_used, clippy::panic, reason = "tests: a panic is the report")]

mod simulation {
    mod acts;
    mod chaos;
    mod drains;
    mod hosts;
    mod losses;
    mod registry;
    mod requests;
    mod script;
    mod steps;
    mod workflows;
    mod world;
}

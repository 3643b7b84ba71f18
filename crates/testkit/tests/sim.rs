//! The simulation judged by itself: it must misbehave exactly as it was told, or what it proves about others is nothing.

#![allow(clippy::expect_used, clippy::panic, reason = "tests: a panic is the report")]

mod sim {
    mod host;
    mod images;
    mod ledger;
    mod oracle;
}

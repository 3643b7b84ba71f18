//! The rules of a request's fields; every broken one is collected, so that a caller mends all at once.

use crate::error::{Answer, ApiError};
use plimsoll_client::wire::FieldError;
use plimsoll_engine::{policy, spec};
use std::{collections::BTreeMap, fmt::Display};

/// Collects broken rules.
#[derive(Default)]
pub(crate) struct Rules(Vec<FieldError>);

impl Rules {
    /// Notes a broken rule.
    pub(crate) fn broken(&mut self, pointer: impl Into<String>, detail: impl Display) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.to_string() });
    }

    /// Notes a broken rule if this does not hold.
    pub(crate) fn require(&mut self, holds: bool, pointer: &str, detail: impl Display) {
        if !holds {
            self.broken(pointer, detail);
        }
    }

    /// The value, or a broken rule.
    pub(crate) fn take<T, E: Display>(&mut self, pointer: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.broken(pointer, error)).ok()
    }

    /// An error with every broken rule, if there is one.
    pub(crate) fn end(self) -> Answer<()> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::fields(self.0)) }
    }

    /// Names and values of an environment. Values may be secret: they are never repeated.
    pub(crate) fn env(&mut self, pointer: &str, env: &BTreeMap<String, String>) {
        let (most, bytes) =
            (spec::ENV_BYTES_MAX, env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>());
        self.require(bytes <= most, pointer, format!("{bytes} bytes; at most {most}, or a file"));
        for (name, value) in env {
            let at = format!(
                "{pointer}/{}",
                name.chars().take(80).collect::<String>().replace('~', "~0").replace('/', "~1")
            );
            self.take(at.clone(), plimsoll_types::names::check_env_name(name));
            self.require(!value.contains('\0'), &at, "its value has a NUL byte");
        }
    }

    /// A program with its arguments.
    pub(crate) fn argv(&mut self, pointer: &str, argv: &[String]) {
        let (most, _) = spec::COMMAND_MAX;
        self.require(
            argv.first().is_some_and(|program| !program.is_empty()),
            pointer,
            "name a program: argv is an array such as [\"ls\", \"-l\"]",
        );
        self.require(argv.len() <= most, pointer, format!("at most {most} arguments"));
        self.require(argv.iter().all(|argument| !argument.contains('\0')), pointer, "arguments have no NUL bytes");
    }

    /// An absolute path inside a sandbox.
    pub(crate) fn path(&mut self, pointer: &str, path: &str) {
        self.take(pointer, plimsoll_types::names::check_path(path));
    }

    /// A reason for whoever reads it later.
    pub(crate) fn reason(&mut self, pointer: &str, reason: &str) {
        let ok = reason.len() <= policy::REASON_MAX && !reason.contains(char::is_control);
        self.require(ok, pointer, format!("at most {} bytes on one line", policy::REASON_MAX));
    }

    /// A user inside a sandbox: `name`, `uid` or `uid:gid`.
    pub(crate) fn user(&mut self, pointer: &str, user: &str) {
        let ok = (1..=64).contains(&user.len())
            && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:".contains(&b))
            && !user.starts_with(['-', ':']);
        self.require(ok, pointer, "write name, uid or uid:gid");
    }
}

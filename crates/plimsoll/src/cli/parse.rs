//! Reading what people type: durations, variables, `sandbox:/path`.

use anyhow::{Context, Result};
use plimsoll_types::{Millis, SandboxId};
use std::{collections::BTreeMap, path::Path, time::Duration};

/// The command line itself is wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A [`Usage`] error with this text.
pub fn wrong<T>(text: impl Into<String>) -> Result<T> {
    Err(Usage(text.into()).into())
}

/// `30s`, `2h`, `1h 30m`; a bare number counts seconds.
///
/// # Errors
/// When it is none of these.
pub fn duration(text: &str) -> Result<Duration> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).or_else(|_| wrong(format!("{text:?} is no time such as 30s, 5m or 2h")))
}

/// A lifetime: `None` for `never`.
///
/// # Errors
/// When it is neither a time nor `never`.
pub fn lifetime(text: &str) -> Result<Option<Millis>> {
    if text == "never" {
        return Ok(None);
    }
    Ok(Some(Millis(u64::try_from(duration(text)?.as_millis()).context("that lifetime is too long")?)))
}

/// Permission bits in octal, such as `755` or `0644`.
///
/// # Errors
/// When they are none.
pub fn mode(text: &str) -> Result<u32> {
    match u32::from_str_radix(text, 8) {
        Ok(mode @ 0..=0o7777) => Ok(mode),
        _ => wrong(format!("{text:?} is no mode in octal such as 0644")),
    }
}

/// `NAME=VALUE` pairs.
///
/// # Errors
/// When one has no `=` or its name is invalid.
pub fn variables<'a>(pairs: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for pair in pairs {
        // The value may be a secret: only the name is ever repeated.
        let Some((name, value)) = pair.split_once('=') else { return wrong("a variable has no '='; write NAME=VALUE") };
        plimsoll_types::names::check_env_name(name)?;
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

/// The variables of a file: a `NAME=VALUE` a line, `#` comments and blank lines between.
///
/// # Errors
/// When it cannot be read or a line is wrong; the message has the line's number, never its value.
pub fn variables_file(path: &Path) -> Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut variables_ = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let pair = variables([line]).with_context(|| format!("{}, line {}", path.display(), number + 1))?;
        variables_.extend(pair);
    }
    Ok(variables_)
}

/// One side of `plimsoll cp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySide {
    /// A path on this machine.
    Here(std::path::PathBuf),
    /// A path in a sandbox.
    There(SandboxId, String),
}

/// Reads one side of `plimsoll cp`: `sb-…:/path`, else a path here.
///
/// # Errors
/// When it names a sandbox but the path is not absolute.
pub fn copy_side(text: &str) -> Result<CopySide> {
    match text.split_once(':').and_then(|(id, path)| Some((id.parse().ok()?, path))) {
        Some((sandbox, path)) => {
            plimsoll_types::names::check_path(path)?;
            Ok(CopySide::There(sandbox, path.to_owned()))
        }
        None if text.starts_with("sb-") && text.contains(':') => {
            wrong(format!("{text:?} does not start with a sandbox id such as sb-…"))
        }
        None => Ok(CopySide::Here(text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_lifetimes() {
        assert_eq!(duration("90").ok(), Some(Duration::from_secs(90)));
        assert_eq!(duration("1h 30m").ok(), Some(Duration::from_secs(5400)));
        assert!(duration("soon").is_err());
        assert_eq!(lifetime("never").ok(), Some(None));
        assert_eq!(lifetime("2s").ok(), Some(Some(Millis(2000))));
    }

    #[test]
    fn a_bad_variable_never_shows_its_value() {
        let error = variables(["1BAD=hunter2"]).expect_err("invalid name");
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        let error = variables(["hunter2"]).expect_err("no name at all");
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    }

    #[test]
    fn copy_sides_are_told_apart() {
        let id = SandboxId::from_parts(1, 1);
        assert_eq!(copy_side(&format!("{id}:/a")).ok(), Some(CopySide::There(id, "/a".into())));
        assert_eq!(copy_side("./x:y").ok(), Some(CopySide::Here("./x:y".into())));
        assert!(copy_side(&format!("{id}:a")).is_err() && copy_side("sb-zz:/a").is_err());
    }
}

//! Names that people choose: each type checks its text once, so that no layer below checks again.

use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// A name that breaks its rule; the message says which and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} is invalid: {rule}")]
pub struct InvalidName {
    kind: &'static str,
    text: String,
    rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// Says which rule the text breaks.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidName { kind: $kind, text: text.chars().take(80).collect(), rule: $rule })
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

fn word(text: &str, max: usize, extra: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= max
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || extra.contains(b))
}

name!(
    /// The platform's own key for a sandbox; part of the container's name and of the workspace's path.
    SessionId, "session", |text| word(text, 64, b"_.-") && !text.contains(".."),
    "use 1 to 64 letters, digits, '_', '-' and single '.', starting with a letter or digit"
);
name!(
    /// Whose sandboxes and keys they are. No dots, so that `<session>..<tenant>` splits in one way only.
    TenantId, "tenant", |text| word(text, 32, b"-_"),
    "use 1 to 32 letters, digits, '_' and '-', starting with a letter or digit"
);
name!(
    /// What an operator calls a host.
    HostName, "host name", |text| word(text, 63, b"_.-"),
    "use 1 to 63 letters, digits, '_', '-' and '.', starting with a letter or digit"
);
name!(
    /// What the platform calls a snapshot; unique per tenant.
    SnapshotName, "snapshot name", |text| word(text, 128, b"_.-"),
    "use 1 to 128 letters, digits, '_', '-' and '.', starting with a letter or digit"
);
name!(
    /// An image to run, as Docker writes it: `name`, `name:tag`, `registry/name@sha256:…`.
    ImageRef, "image", image,
    "use a Docker image reference such as debian:12 or ghcr.io/team/agent@sha256:…, at most 255 characters"
);

impl TenantId {
    /// The tenant of keys made without one.
    #[must_use]
    pub fn default_tenant() -> Self {
        Self("default".into())
    }
}

fn image(text: &str) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"_.-/:@".contains(b);
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let digest_ok = digest.is_none_or(|d| {
        d.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    });
    let last = name.rsplit('/').next().unwrap_or(name);
    let path = name.rsplit_once('/').map_or("", |(path, _)| path);
    let lower = |part: &str| !part.bytes().any(|b| b.is_ascii_uppercase());
    let repository = last.split(':').next().unwrap_or(last);
    text.len() <= 255
        && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.as_bytes().iter().all(allowed)
        && !name.ends_with(['/', ':', '.', '-'])
        && !name.contains("//")
        && last.matches(':').count() <= 1
        && lower(repository)
        && (path.is_empty() || lower(path.split_once('/').map_or("", |(_, rest)| rest)))
        && digest_ok
}

/// One `key=value` an operator or a platform attaches to a host or a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// What is said.
    pub key: Box<str>,
    /// What it is; may be empty.
    pub value: Box<str>,
}

/// Labels or metadata: at most [`Label::MAX_COUNT`], keys unique.
pub type Labels = BTreeMap<Box<str>, Box<str>>;

impl Label {
    /// More labels than this on one thing is a mistake, and each one is replicated.
    pub const MAX_COUNT: usize = 64;

    /// Checks one label.
    ///
    /// # Errors
    /// Says which part breaks which rule.
    pub fn check(key: &str, value: &str) -> Result<(), InvalidName> {
        if !word(key, 63, b"_.-/") {
            let rule = "use 1 to 63 letters, digits, '_', '-', '.' and '/', starting with a letter or digit";
            return Err(InvalidName { kind: "label key", text: key.chars().take(80).collect(), rule });
        }
        if value.len() > 255 || value.chars().any(char::is_control) {
            let rule = "use at most 255 bytes without control characters";
            return Err(InvalidName { kind: "label value", text: value.chars().take(80).collect(), rule });
        }
        Ok(())
    }

    /// Checks a whole set.
    ///
    /// # Errors
    /// The first label that breaks a rule, or that there are too many.
    pub fn check_all(labels: &Labels) -> Result<(), InvalidName> {
        if labels.len() > Self::MAX_COUNT {
            return Err(InvalidName {
                kind: "label set",
                text: labels.len().to_string(),
                rule: "use at most 64 labels",
            });
        }
        labels.iter().try_for_each(|(key, value)| Self::check(key, value))
    }
}

impl FromStr for Label {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (key, value) = text.split_once('=').ok_or_else(|| InvalidName {
            kind: "label",
            text: text.chars().take(80).collect(),
            rule: "write key=value",
        })?;
        Self::check(key, value)?;
        Ok(Self { key: key.into(), value: value.into() })
    }
}

/// Checks the name of an environment variable.
///
/// # Errors
/// Says the rule: the POSIX form, at most 255 characters.
pub fn check_env_name(name: &str) -> Result<(), InvalidName> {
    let bytes = name.as_bytes();
    let ok = bytes.len() <= 255
        && bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    if ok {
        return Ok(());
    }
    let rule = "use letters, digits and '_', not starting with a digit, at most 255 characters";
    Err(InvalidName { kind: "environment variable", text: name.chars().take(80).collect(), rule })
}

/// Checks a path inside a sandbox: absolute, no NUL, at most 4,096 bytes (Linux's PATH_MAX).
///
/// # Errors
/// Says the rule.
pub fn check_path(path: &str) -> Result<(), InvalidName> {
    if path.starts_with('/') && path.len() < 4096 && !path.contains('\0') {
        return Ok(());
    }
    let rule = "use an absolute path without NUL bytes, shorter than 4,096 bytes";
    Err(InvalidName { kind: "path", text: path.chars().take(80).collect(), rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_cannot_escape_a_container_name_or_a_path() {
        for good in ["a", "abc-123", "User_7.x", &"x".repeat(64)] {
            assert!(SessionId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a..b", "a/b", "a b", "ä", "a\n", &"x".repeat(65)] {
            let error = SessionId::new(bad).expect_err(bad);
            assert!(error.to_string().starts_with("session "), "{error}");
        }
    }

    #[test]
    fn images_are_dockers_references() {
        let digest = format!("reg.example:5000/team/app@sha256:{}", "a".repeat(64));
        for good in ["debian:12", "a/b/c", "localhost:5000/x", "Host.example/x:T1", digest.as_str()] {
            assert!(ImageRef::new(good).is_ok(), "{good}");
        }
        for bad in ["", "Debian", "a:b:c", "a@sha256:12", "a b", "/a", "a/", "a//b", "-x"] {
            assert!(ImageRef::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_env_and_paths_have_rules() {
        assert!("zone=eu".parse::<Label>().is_ok() && "zone".parse::<Label>().is_err());
        assert!(check_env_name("PATH").is_ok() && check_env_name("1A").is_err() && check_env_name("A=B").is_err());
        assert!(check_path("/a b").is_ok() && check_path("a").is_err() && check_path("/a\0").is_err());
    }
}

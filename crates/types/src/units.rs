//! Units: CPU, bytes, times and generations as newtypes with checked arithmetic.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);

            /// The sum, or `None` past `u64::MAX`.
            #[must_use]
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The sum, or the largest value.
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, or zero.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }
    };
}

unit!(
    /// Thousandths of a CPU.
    MilliCpu
);
unit!(
    /// Bytes of memory or disk.
    Bytes
);
unit!(
    /// A length of time in milliseconds.
    Millis
);
unit!(
    /// A point in time: milliseconds since the Unix epoch, read by whoever proposed it.
    Timestamp
);
unit!(
    /// Counts a sandbox's incarnations; every container carries the one it was made for.
    Generation
);

impl Bytes {
    /// So many mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// So many gibibytes.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }
}

impl Millis {
    /// So many seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(n.saturating_mul(1000))
    }
}

impl Timestamp {
    /// This time and a while.
    #[must_use]
    pub const fn plus(self, while_: Millis) -> Self {
        Self(self.0.saturating_add(while_.0))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Generation {
    /// The first incarnation.
    pub const FIRST: Self = Self(1);

    /// The incarnation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `2 vCPU`, `0.5 vCPU`.
impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            write!(f, "{whole} vCPU")
        } else {
            write!(f, "{whole}.{} vCPU", format!("{part:03}").trim_end_matches('0'))
        }
    }
}

/// The largest binary unit that loses nothing, else one decimal: `3 GiB`, `7745 MiB`, `1.5 GiB`.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (name, size) in UNITS {
            if self.0 >= size {
                let tenths = (u128::from(self.0) * 10 + u128::from(size) / 2) / u128::from(size);
                return if tenths % 10 == 0 {
                    write!(f, "{} {name}", tenths / 10)
                } else {
                    write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Text that is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct InvalidAmount {
    text: String,
    expected: &'static str,
}

/// Accepts `2`, `0.5` (CPUs) and `500m` (thousandths).
impl FromStr for MilliCpu {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let invalid = || InvalidAmount {
            text: text.chars().take(64).collect(),
            expected: "a number of CPUs such as 2, 0.5 or 500m",
        };
        if let Some(milli) = text.strip_suffix('m') {
            return milli.parse().map(Self).map_err(|_| invalid());
        }
        decimal(text, 1000).map(Self).ok_or_else(invalid)
    }
}

/// Accepts a whole number of bytes, or a number with `K`, `M`, `G`, `T` (powers of 1024; `KiB` or `KB` alike).
impl FromStr for Bytes {
    type Err = InvalidAmount;
    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        let invalid =
            || InvalidAmount { text: text.chars().take(64).collect(), expected: "a size such as 512M, 3G or 1.5GiB" };
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(invalid()),
        };
        decimal(number, scale).map(Self).ok_or_else(invalid)
    }
}

/// `whole[.fraction]` times `scale`, exact or `None`; at most nine digits of fraction.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits_only = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 19 || fraction.len() > 9 || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let divisor = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let total = whole * u128::from(scale) + part * u128::from(scale) / divisor;
    u64::try_from(total).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_as_people_write_them() {
        for (text, bytes, printed) in [
            ("3G", Bytes::gib(3), "3 GiB"),
            ("1.5GiB", Bytes(3 << 29), "1.5 GiB"),
            ("512m", Bytes::mib(512), "512 MiB"),
            ("17", Bytes(17), "17 B"),
        ] {
            assert_eq!(text.parse(), Ok(bytes), "{text}");
            assert_eq!(bytes.to_string(), printed);
        }
        for bad in ["", "G", "1.G.2", "-1", "1e9", "99999999999999999999T", "3X"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cpus_read_and_print_as_people_write_them() {
        assert_eq!("2".parse(), Ok(MilliCpu(2000)));
        assert_eq!("0.5".parse(), Ok(MilliCpu(500)));
        assert_eq!("250m".parse(), Ok(MilliCpu(250)));
        assert_eq!(MilliCpu(2000).to_string(), "2 vCPU");
        assert_eq!(MilliCpu(1250).to_string(), "1.25 vCPU");
        assert!("two".parse::<MilliCpu>().is_err());
    }
}

//! Units as they stand on the wire: CPUs as a number, sizes as bytes, times as RFC 3339. Readers accept what people write.

use plimsoll_types::{Bytes, MilliCpu, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use utoipa::ToSchema;

/// An amount of CPU. Read from a number of CPUs (`2`, `0.5`) or a string (`"2"`, `"500m"`); written as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = f64, example = 0.5)]
pub struct Cpu(pub MilliCpu);

/// Memory or disk. Read from a number of bytes or a string (`"3GiB"`, `"512M"`, powers of 1,024); written as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = u64, example = 3_221_225_472_u64)]
pub struct Size(pub Bytes);

/// A point in time, as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T12:00:00.000Z")]
pub struct Time(pub Timestamp);

impl FromStr for Cpu {
    type Err = plimsoll_types::units::InvalidAmount;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Cpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(MilliCpu(milli)) = *self;
        if milli % 1000 == 0 {
            return serializer.serialize_u64(milli / 1000);
        }
        // Below 2^53 thousandths this is exact; no machine has more CPUs than that.
        #[allow(clippy::cast_precision_loss)]
        serializer.serialize_f64(milli as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Cpu;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of CPUs such as 2, 0.5 or \"500m\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Cpu, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, cpus: u64) -> Result<Cpu, E> {
                let milli =
                    cpus.checked_mul(1000).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(cpus), &self))?;
                Ok(Cpu(MilliCpu(milli)))
            }
            fn visit_f64<E: de::Error>(self, cpus: f64) -> Result<Cpu, E> {
                // Through the decimal text, so that 0.1 is 100 thousandths and not 99.
                cpus.to_string().parse().map_err(|_| E::invalid_value(de::Unexpected::Float(cpus), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl FromStr for Size {
    type Err = plimsoll_types::units::InvalidAmount;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes or a size such as \"3GiB\" or \"512M\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(Bytes(bytes)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Text that is no RFC 3339 time in UTC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time; write RFC 3339 in UTC, such as 2026-01-31T12:00:00Z")]
pub struct InvalidTime(String);

impl FromStr for Time {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let invalid = || InvalidTime(text.chars().take(64).collect());
        let time = humantime::parse_rfc3339(text).map_err(|_| invalid())?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| invalid())?;
        u64::try_from(since.as_millis()).map(|ms| Self(Timestamp(ms))).map_err(|_| invalid())
    }
}

impl Time {
    /// The last millisecond of the year 9999: RFC 3339 has no later one.
    const MAX_MS: u64 = 253_402_300_799_999;

    fn system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.0.min(Self::MAX_MS))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_rfc3339_millis(self.system()).to_string())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_what_people_write_and_write_numbers() {
        for (json, milli, written) in
            [("2", 2000, "2"), ("0.5", 500, "0.5"), ("\"250m\"", 250, "0.25"), ("0.1", 100, "0.1")]
        {
            let cpu: Cpu = serde_json::from_str(json).unwrap();
            assert_eq!(cpu, Cpu(MilliCpu(milli)), "{json}");
            assert_eq!(serde_json::to_string(&cpu).unwrap(), written);
        }
        assert_eq!(serde_json::from_str::<Size>("\"3GiB\"").unwrap(), Size(Bytes::gib(3)));
        assert_eq!(serde_json::to_string(&Size(Bytes(17))).unwrap(), "17");
        for bad in ["-1", "true", "\"two\"", "1e40", "null"] {
            assert!(serde_json::from_str::<Cpu>(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Size>("1.5").is_err(), "half a byte");
    }

    #[test]
    fn times_are_rfc_3339() {
        let time = Time(Timestamp(1_700_000_000_123));
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        assert!("yesterday".parse::<Time>().is_err());
        assert!(Time(Timestamp(u64::MAX)).to_string().starts_with("9999"), "a far deadline does not panic");
    }
}

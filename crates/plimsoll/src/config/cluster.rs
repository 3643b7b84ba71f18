//! The `[cluster]` section: what a new cluster's policy starts with, and how it differs from the one in force later.
//!
//! The replicated policy rules; nothing here ever changes it after founding.

use anyhow::{Context as _, Result, bail};
use plimsoll_state::Policy;
use plimsoll_types::{Bytes, HostName, ImageRef, Millis};
use serde::Deserialize;
use std::fmt;

/// `[cluster]`; what is left out is as in [`Policy::default`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// Image for sandboxes that name none.
    pub base_image: Option<String>,
    /// First part of container names.
    pub name_prefix: Option<String>,
    /// Folder on hosts that holds workspaces.
    pub host_data_dir: Option<String>,
    /// Memory never reserved on a host.
    pub memory_reserve: Option<String>,
    /// Disk never reserved on a host.
    pub disk_reserve: Option<String>,
    /// CPU that may be reserved, as a multiple of a host's CPUs.
    pub cpu_overcommit: Option<f64>,
    /// Past this share of time in which tasks wait for a CPU (PSI, percent), nothing more is placed on a host; 100 never triggers.
    pub cpu_pressure_max: Option<u8>,
    /// The same for memory.
    pub memory_pressure_max: Option<u8>,
    /// The same for disk.
    pub io_pressure_max: Option<u8>,
    /// Most sandboxes waiting for room.
    pub queue_limit: Option<u32>,
    /// Hours that records of terminated sandboxes are kept.
    pub retention_hours: Option<u64>,
}

/// A setting of this node that the cluster's policy overrules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overruled {
    /// Its key in the file, with its variable.
    pub setting: &'static str,
    /// Its name in the policy.
    pub rule: &'static str,
    /// What is configured here, as the policy says it.
    pub here: String,
    /// What rules.
    pub in_force: String,
}

impl Overruled {
    /// The command that would make the policy say what is configured here.
    #[must_use]
    pub fn remedy(&self) -> String {
        let value = &self.here;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
        let quote = if value.chars().all(plain) { "" } else { "'" };
        format!("plimsoll cluster policy set {}={quote}{value}{quote}", self.rule)
    }
}

impl fmt::Display for Overruled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, here, in_force, .. } = self;
        let in_force = if in_force.is_empty() { "none" } else { in_force };
        write!(
            f,
            "{setting} means {here} here, but the cluster's policy says {in_force} and rules; to change it: {}",
            self.remedy()
        )
    }
}

impl Cluster {
    /// The policy that a new cluster starts with.
    ///
    /// # Errors
    /// When an amount, the image or the overcommit is invalid; the message names the key.
    pub fn policy(&self) -> Result<Policy> {
        let mut policy = Policy::default();
        if let Some(image) = &self.base_image {
            policy.base_image = Some(ImageRef::new(image).context("cluster.base_image (VPS_BASE_IMAGE)")?);
        }
        if let Some(prefix) = &self.name_prefix {
            HostName::new(prefix).context("cluster.name_prefix")?;
            policy.name_prefix = prefix.as_str().into();
        }
        if let Some(folder) = &self.host_data_dir {
            policy.data_dir = plain_folder(folder)?.into();
        }
        let line = &mut policy.load_line;
        if let Some(reserve) = &self.memory_reserve {
            line.memory_reserve = reserve.parse::<Bytes>().context("cluster.memory_reserve")?;
        }
        if let Some(reserve) = &self.disk_reserve {
            line.disk_reserve = reserve.parse::<Bytes>().context("cluster.disk_reserve")?;
        }
        if let Some(overcommit) = self.cpu_overcommit {
            line.cpu_overcommit_permille = permille(overcommit)?;
        }
        let max = &mut line.pressure_max;
        for (setting, percent, max) in [
            ("cluster.cpu_pressure_max", self.cpu_pressure_max, &mut max.cpu_centipercent),
            ("cluster.memory_pressure_max", self.memory_pressure_max, &mut max.memory_centipercent),
            ("cluster.io_pressure_max", self.io_pressure_max, &mut max.io_centipercent),
        ] {
            match percent {
                Some(percent @ 0..=100) => *max = u16::from(percent) * 100,
                Some(percent) => bail!("{setting} {percent} is more than 100 percent"),
                None => {}
            }
        }
        policy.queue_limit = self.queue_limit.unwrap_or(policy.queue_limit);
        if let Some(hours) = self.retention_hours {
            policy.retention = Millis::secs(hours.saturating_mul(3600));
        }
        Ok(policy)
    }

    /// What is set here and differs from the policy in force. What is left out has no opinion.
    ///
    /// # Errors
    /// As [`Cluster::policy`].
    pub fn overruled(&self, in_force: &Policy) -> Result<Vec<Overruled>> {
        let own = self.policy()?;
        let said = RULES.iter().filter(|rule| (rule.is_set)(self));
        let compared = said.map(|rule| Overruled {
            setting: rule.setting,
            rule: rule.name,
            here: (rule.read)(&own),
            in_force: (rule.read)(in_force),
        });
        Ok(compared.filter(|row| row.here != row.in_force).collect())
    }
}

/// A setting with the rule of the policy that it begins as.
struct Rule {
    /// Its key in the file, with its variable.
    setting: &'static str,
    /// Its name in the policy, as the API has it.
    name: &'static str,
    is_set: fn(&Cluster) -> bool,
    /// What a policy says, as `plimsoll cluster policy set` takes it.
    read: fn(&Policy) -> String,
}

const fn rule(
    setting: &'static str,
    name: &'static str,
    is_set: fn(&Cluster) -> bool,
    read: fn(&Policy) -> String,
) -> Rule {
    Rule { setting, name, is_set, read }
}

const RULES: [Rule; 11] = [
    rule(
        "cluster.base_image (VPS_BASE_IMAGE)",
        "base_image",
        |cluster| cluster.base_image.is_some(),
        |policy| policy.base_image.as_ref().map(ToString::to_string).unwrap_or_default(),
    ),
    rule(
        "cluster.name_prefix",
        "name_prefix",
        |cluster| cluster.name_prefix.is_some(),
        |policy| policy.name_prefix.to_string(),
    ),
    rule(
        "cluster.host_data_dir (VPS_DATA_VOLUME)",
        "data_dir",
        |cluster| cluster.host_data_dir.is_some(),
        |policy| policy.data_dir.to_string(),
    ),
    rule(
        "cluster.memory_reserve",
        "memory_reserve",
        |cluster| cluster.memory_reserve.is_some(),
        |policy| exact(policy.load_line.memory_reserve),
    ),
    rule(
        "cluster.disk_reserve",
        "disk_reserve",
        |cluster| cluster.disk_reserve.is_some(),
        |policy| exact(policy.load_line.disk_reserve),
    ),
    rule(
        "cluster.cpu_overcommit",
        "cpu_overcommit_permille",
        |cluster| cluster.cpu_overcommit.is_some(),
        |policy| policy.load_line.cpu_overcommit_permille.to_string(),
    ),
    rule(
        "cluster.cpu_pressure_max",
        "cpu_pressure_max_centipercent",
        |cluster| cluster.cpu_pressure_max.is_some(),
        |policy| policy.load_line.pressure_max.cpu_centipercent.to_string(),
    ),
    rule(
        "cluster.memory_pressure_max",
        "memory_pressure_max_centipercent",
        |cluster| cluster.memory_pressure_max.is_some(),
        |policy| policy.load_line.pressure_max.memory_centipercent.to_string(),
    ),
    rule(
        "cluster.io_pressure_max",
        "io_pressure_max_centipercent",
        |cluster| cluster.io_pressure_max.is_some(),
        |policy| policy.load_line.pressure_max.io_centipercent.to_string(),
    ),
    rule(
        "cluster.queue_limit",
        "queue_limit",
        |cluster| cluster.queue_limit.is_some(),
        |policy| policy.queue_limit.to_string(),
    ),
    rule(
        "cluster.retention_hours",
        "retention_s",
        |cluster| cluster.retention_hours.is_some(),
        |policy| (policy.retention.0 / 1000).to_string(),
    ),
];

/// A size that reads back as the same number of bytes.
fn exact(bytes: Bytes) -> String {
    let short = bytes.to_string().replace(' ', "");
    if short.parse() == Ok(bytes) { short } else { bytes.0.to_string() }
}

/// A folder below which folders may be removed.
fn plain_folder(folder: &str) -> Result<&str> {
    let folder = folder.trim_end_matches('/');
    let plain =
        folder.len() > 1 && folder.starts_with('/') && !folder.split('/').any(|part| part == ".." || part == ".");
    if !plain || folder.chars().any(char::is_control) {
        bail!(
            "cluster.host_data_dir (VPS_DATA_VOLUME) {folder:?} is no absolute folder other than /, without '.' and '..'"
        );
    }
    Ok(folder)
}

fn permille(overcommit: f64) -> Result<u32> {
    if !(0.1..=16.0).contains(&overcommit) {
        bail!("cluster.cpu_overcommit {overcommit} is not between 0.1 and 16");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked just above
    Ok((overcommit * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_that_could_eat_the_host_is_refused() {
        for bad in ["/", "relative", "/a/../b", ""] {
            let cluster = Cluster { host_data_dir: Some(bad.into()), ..Cluster::default() };
            assert!(cluster.policy().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_setting_that_the_policy_overrules_is_said_with_the_command() {
        let text = "base_image = \"shadow:2\"\nname_prefix = \"box\"\nhost_data_dir = \"/srv/boxes/\"\n\
            memory_reserve = \"1536M\"\ndisk_reserve = \"4GiB\"\ncpu_overcommit = 2.5\ncpu_pressure_max = 1\n\
            memory_pressure_max = 2\nio_pressure_max = 3\nqueue_limit = 4\nretention_hours = 5\n";
        let cluster: Cluster = toml::from_str(text).expect("valid");
        let overruled = cluster.overruled(&Policy::default()).expect("valid");
        let remedies: Vec<String> = overruled.iter().map(Overruled::remedy).collect();
        let expected = [
            "base_image=shadow:2",
            "name_prefix=box",
            "data_dir=/srv/boxes",
            "memory_reserve=1.5GiB",
            "disk_reserve=4GiB",
            "cpu_overcommit_permille=2500",
            "cpu_pressure_max_centipercent=100",
            "memory_pressure_max_centipercent=200",
            "io_pressure_max_centipercent=300",
            "queue_limit=4",
            "retention_s=18000",
        ];
        assert_eq!(remedies, expected.map(|set| format!("plimsoll cluster policy set {set}")));
        assert_eq!(
            overruled[0].to_string(),
            "cluster.base_image (VPS_BASE_IMAGE) means shadow:2 here, but the cluster's policy says none and rules; \
             to change it: plimsoll cluster policy set base_image=shadow:2"
        );
        assert_eq!(cluster.overruled(&cluster.policy().expect("valid")).expect("valid"), []);
    }

    #[test]
    fn what_is_not_set_has_no_opinion() {
        let policy = Policy { queue_limit: 1, ..Policy::default() };
        assert_eq!(Cluster::default().overruled(&policy).expect("valid"), []);
        let cluster = Cluster { queue_limit: Some(Policy::default().queue_limit), ..Cluster::default() };
        assert_eq!(cluster.overruled(&policy).expect("valid").len(), 1, "a default that is written down is an opinion");
    }
}

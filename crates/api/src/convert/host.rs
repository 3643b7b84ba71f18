//! Between hosts on the wire and the engine's.

use super::rules::Rules;
use crate::error::Answer;
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::STANDARD_NO_PAD};
use plimsoll_client::wire::{self, HostIdentity, Size, Time};
use plimsoll_engine::{HostCheck, HostStatus, NewHost};
use plimsoll_lifecycle::ports::SurveyReport;
use plimsoll_types::{Identity, Label, PublishAddress};
use sha2::{Digest, Sha256};

/// Checks a request and turns it into what the engine takes.
pub(crate) fn new_host(request: wire::NewHost) -> Answer<NewHost> {
    let mut rules = Rules::default();
    rules.take("/labels", Label::check_all(&request.labels));
    if let HostIdentity::File(path) = &request.identity {
        rules.require(
            path.starts_with('/') && !path.contains('\0'),
            "/identity/file",
            "write an absolute path that exists on every node",
        );
    }
    if let Some(fingerprint) = &request.fingerprint {
        let ok =
            fingerprint.strip_prefix("SHA256:").is_some_and(|hash| (1..=64).contains(&hash.len()) && hash.is_ascii());
        rules.require(ok, "/fingerprint", "write it as ssh-keygen -l prints it: SHA256:…");
    }
    if let Some(name) = &request.advertise {
        let ok =
            (1..=253).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b));
        rules.require(ok, "/advertise", "write a name or an IP address, without scheme and port");
    }
    rules.end()?;
    Ok(NewHost {
        name: request.name,
        address: request.address,
        identity: match request.identity {
            HostIdentity::NodeDefault => Identity::NodeDefault,
            HostIdentity::File(path) => Identity::File(path.into()),
            HostIdentity::Agent => Identity::Agent,
        },
        fingerprint: request.fingerprint,
        labels: request.labels,
        price_milli_per_hour: request.price_milli_per_hour,
        publish: request.publish.map(PublishAddress).unwrap_or_default(),
        advertise: request.advertise.map(Into::into),
    })
}

/// A host as it is.
pub(crate) fn host(status: HostStatus) -> wire::Host {
    let HostStatus { host, line, load } = status;
    wire::Host {
        id: host.id.to_string(),
        name: host.name.clone(),
        address: host.address.clone(),
        identity: match &host.identity {
            Identity::NodeDefault => HostIdentity::NodeDefault,
            Identity::File(path) => HostIdentity::File(path.display().to_string()),
            Identity::Agent => HostIdentity::Agent,
        },
        fingerprint: host.host_key.as_deref().and_then(fingerprint),
        host_key: host.host_key.clone(),
        labels: host.labels.clone(),
        price_milli_per_hour: host.price_milli_per_hour,
        publish: host.publish.0,
        advertise: host.advertise.as_ref().map(ToString::to_string),
        facts: host.facts.clone().into(),
        health: host.health,
        health_since: Time(host.health_since),
        health_reason: host.health_reason.to_string(),
        cordon: host
            .cordon
            .as_ref()
            .map(|cordon| wire::Cordon { since: Time(cordon.at), reason: cordon.reason.to_string() }),
        quarantine: host
            .quarantine
            .as_ref()
            .map(|until| wire::Quarantine { until: Time(until.at), reason: until.reason.to_string() }),
        disk_full: host
            .disk_full
            .as_ref()
            .map(|full| wire::FullDisk { since: Time(full.at), reason: full.reason.to_string() }),
        drain: host.drain.as_ref().map(|drain| wire::Drain {
            since: Time(drain.at),
            deadline: drain.deadline.map(Time),
            parallel: drain.parallel,
            reason: drain.reason.to_string(),
        }),
        line: line.into(),
        reserved: host.reserved.into(),
        sandboxes: host.sandboxes,
        load: load.map(Into::into),
        added_at: Time(host.added_at),
    }
}

/// What checking a host found.
pub(crate) fn check(check: HostCheck) -> wire::HostCheck {
    let (host_key, fingerprint) = check.host_key.unzip();
    wire::HostCheck { host_key, fingerprint, report: check.report.map(survey), warnings: check.warnings }
}

fn survey(report: SurveyReport) -> wire::Survey {
    wire::Survey {
        runsc_present: report.facts.runtimes.iter().any(|runtime| runtime == "runsc"),
        facts: report.facts.into(),
        load: report.load.into(),
        disk_free: Size(report.disk_free),
        inodes_free: report.inodes_free,
        clock_skew_ms: report.clock_skew_ms,
        base_image_present: report.base_image_present,
        max_sessions: report.max_sessions,
        max_startups: report.max_startups,
    }
}

/// The fingerprint of a key in OpenSSH's one-line form, as `ssh-keygen -l` prints it.
fn fingerprint(line: &str) -> Option<String> {
    let blob = STANDARD.decode(line.split_whitespace().nth(1)?).ok()?;
    Some(format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // GitHub's published ed25519 host key and its published fingerprint.
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
        assert_eq!(fingerprint(key).as_deref(), Some("SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"));
        assert_eq!(fingerprint("nonsense"), None);
    }
}

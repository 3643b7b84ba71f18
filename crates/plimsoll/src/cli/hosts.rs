//! `plimsoll host …`

use super::{
    args::{HostAddArgs, HostCommand, Output},
    print,
};
use anyhow::{Context as _, Result};
use plimsoll_client::{
    Client,
    wire::{ChangeHost, Host, HostCheck, HostIdentity, NewHost, Survey},
};
use plimsoll_types::{HostAddress, Label, Labels};
use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Runs one of the host commands.
pub async fn run(client: &Client, output: Output, command: &HostCommand) -> Result<()> {
    match command {
        HostCommand::Add(args) => add(client, output, args).await,
        HostCommand::Check(args) => check(client, output, args).await,
        HostCommand::List => list(client, output).await,
        HostCommand::Inspect { name } => print::result(output, &client.host(name.as_str()).await?, described),
        HostCommand::Cordon { name, reason } => {
            print::result(output, &client.cordon_host(name.as_str(), reason).await?, state)
        }
        HostCommand::Drain(command) => super::drain::run(client, output, command).await,
        HostCommand::Uncordon { name } => print::result(output, &client.uncordon_host(name.as_str()).await?, state),
        HostCommand::Label { name, labels } => {
            let changed = client.change_host(name.as_str(), &label_changes(labels)?).await?;
            print::result(output, &changed, |host| labels_of(&host.labels))
        }
        HostCommand::Set { name, price } => {
            let change = ChangeHost { price_milli_per_hour: Some(milli(*price)?), ..ChangeHost::default() };
            let changed = client.change_host(name.as_str(), &change).await?;
            print::result(output, &changed, |host| {
                format!("{name} costs {} an hour", price_of(host.price_milli_per_hour))
            })
        }
        HostCommand::Remove { name } => {
            let removed = client.remove_host(name.as_str()).await?;
            let answer = serde_json::json!({ "removed": name, "warnings": removed.warnings });
            print::result(output, &answer, |_| {
                let warnings = removed.warnings.iter().map(|warning| format!("\n! {warning}"));
                format!("{name} removed{}", warnings.collect::<String>())
            })
        }
    }
}

/// A price per hour in thousandths.
fn milli(price: f64) -> Result<u64> {
    if !(0.0..=1_000_000.0).contains(&price) {
        return super::parse::wrong(format!("--price {price} is not between 0 and 1,000,000 an hour"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked just above
    let milli = (price * 1000.0).round() as u64;
    Ok(milli)
}

fn price_of(milli: u64) -> String {
    format!("{}.{:03}", milli / 1000, milli % 1000)
}

fn new_host(args: &HostAddArgs) -> Result<NewHost> {
    let price_milli_per_hour = milli(args.price)?;
    let identity = match (&args.identity, args.agent) {
        (Some(path), _) => {
            let path = std::path::absolute(path).with_context(|| format!("--identity {}", path.display()))?;
            HostIdentity::File(path.to_str().context("--identity is no UTF-8 path")?.to_owned())
        }
        (None, true) => HostIdentity::Agent,
        (None, false) => HostIdentity::NodeDefault,
    };
    Ok(NewHost {
        name: args.name.clone(),
        address: args.address.clone(),
        identity,
        fingerprint: args.fingerprint.clone(),
        labels: args.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect::<Labels>(),
        price_milli_per_hour,
        publish: Some(args.publish),
        advertise: args.advertise.clone(),
    })
}

async fn check(client: &Client, output: Output, args: &HostAddArgs) -> Result<()> {
    let mut host = new_host(args)?;
    confirm(client, args, &mut host).await?;
    let spinner = print::spinner(format!("checking {}", args.address));
    let checked = client.check_host(&host).await;
    spinner.finish_and_clear();
    print::result(output, &checked?, report)
}

async fn add(client: &Client, output: Output, args: &HostAddArgs) -> Result<()> {
    let mut host = new_host(args)?;
    confirm(client, args, &mut host).await?;
    let spinner = print::spinner(format!("checking {}", args.address));
    let checked = client.check_host(&host).await;
    spinner.finish_and_clear();
    let checked = checked?;
    let added = client.add_host(&host).await?;
    print::result(output, &added, |host| {
        format!("{}\n{} added as {}: {}", report(&checked), host.name, host.id, state(host))
    })
}

/// Finds out the host's key and has it confirmed: by a flag, or by the person at the terminal.
async fn confirm(client: &Client, args: &HostAddArgs, host: &mut NewHost) -> Result<()> {
    if matches!(args.address, HostAddress::Unix { .. }) || host.fingerprint.is_some() {
        return Ok(());
    }
    let shown = client.check_host(host).await?.fingerprint.context("the host showed no key")?;
    if args.accept_host_key {
        print::note(&format!("{} shows the key {shown}; it is pinned as you asked", args.address));
    } else if std::io::stdin().is_terminal() {
        let mut stderr = std::io::stderr();
        write!(stderr, "{} shows the key {shown}\nIs this the host's key? Type yes to pin it: ", args.address)?;
        stderr.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            return Err(not_confirmed(&args.address, &shown));
        }
    } else {
        return Err(not_confirmed(&args.address, &shown));
    }
    host.fingerprint = Some(shown);
    Ok(())
}

fn not_confirmed(address: &HostAddress, shown: &str) -> anyhow::Error {
    let detail = format!(
        "{address} shows the key {shown}, which is not confirmed; \
         compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host, then pass --fingerprint {shown} (or --accept-host-key)"
    );
    let problem = plimsoll_client::wire::Problem::new(plimsoll_types::Code::HostKeyUnknown, detail);
    plimsoll_client::Error::from(problem).into()
}

fn report(check: &HostCheck) -> String {
    let mut lines = Vec::new();
    if let Some(fingerprint) = &check.fingerprint {
        lines.push(format!("host key     {fingerprint}"));
    }
    lines.extend(check.report.as_ref().map(survey));
    lines.extend(check.warnings.iter().map(|warning| format!("! {warning}")));
    lines.join("\n")
}

fn survey(found: &Survey) -> String {
    let facts = &found.facts;
    let yes = |there: bool| if there { "yes" } else { "no" }.to_owned();
    let known = |value: Option<String>| value.unwrap_or_else(|| "unknown".into());
    print::facts(&[
        ("docker", format!("{} (API {})", facts.docker_version, facts.api_version)),
        (
            "machine",
            format!("{}, {}, {}, {}", facts.hostname, facts.architecture, facts.totals.cpu, facts.totals.memory),
        ),
        ("disk", format!("{} free of {}, {} inodes free", found.disk_free, facts.totals.disk, found.inodes_free)),
        ("clock skew", format!("{} ms", found.clock_skew_ms)),
        ("base image", yes(found.base_image_present)),
        ("runsc", yes(found.runsc_present)),
        ("MaxSessions", known(found.max_sessions.map(|n| n.to_string()))),
        ("MaxStartups", known(found.max_startups.clone())),
    ])
}

async fn list(client: &Client, output: Output) -> Result<()> {
    let hosts = client.hosts().await?;
    print::result(output, &hosts, |hosts| {
        let header = [
            "HOST",
            "STATE",
            "SANDBOXES",
            "CPU RESERVED",
            "CPU USED",
            "MEMORY RESERVED",
            "MEMORY USED",
            "DISK USED",
            "LABELS",
        ];
        let rows = hosts.iter().map(|host| {
            let used = |value: Option<String>| value.unwrap_or_else(|| "-".into());
            let totals = &host.facts.totals;
            vec![
                host.name.to_string(),
                state(host),
                host.sandboxes.to_string(),
                format!("{} of {}", host.reserved.cpu, host.line.cpu),
                used(host.load.as_ref().map(|load| load.cpu.to_string())),
                format!("{} of {}", host.reserved.memory, host.line.memory),
                used(host.load.as_ref().map(|load| format!("{} of {}", load.memory, totals.memory))),
                used(host.load.as_ref().map(|load| format!("{} of {}", load.disk, totals.disk))),
                labels_of(&host.labels),
            ]
        });
        print::table(&header, rows)
    })
}

/// `ready`, `ready, cordoned (disk swap)`, `unreachable (…)`.
pub(super) fn state(host: &Host) -> String {
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let mut text = format!("{}{}", host.health, because(&host.health_reason));
    if let Some(cordon) = &host.cordon {
        text.push_str(&format!(", cordoned{}", because(&cordon.reason)));
    }
    text.push_str(&super::drain::note(host));
    if let Some(full) = &host.disk_full {
        text.push_str(&format!(", disk nearly full{}", because(&full.reason)));
    }
    if let Some(quarantine) = &host.quarantine {
        text.push_str(&format!(", quarantined until {}{}", quarantine.until, because(&quarantine.reason)));
    }
    text
}

fn labels_of(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

fn described(host: &Host) -> String {
    let facts = &host.facts;
    let load = host.load.as_ref();
    let permille = |value: u16| format!("{}.{} %", value / 10, value % 10);
    let centipercent = |value: u16| format!("{}.{:02} %", value / 100, value % 100);
    print::facts(&[
        ("host", format!("{} ({})", host.name, host.id)),
        ("address", host.address.to_string()),
        ("host key", host.fingerprint.clone().unwrap_or_default()),
        ("state", state(host)),
        ("since", host.health_since.to_string()),
        ("docker", format!("{} (API {})", facts.docker_version, facts.api_version)),
        ("machine", format!("{}, {}, kernel {}", facts.hostname, facts.architecture, facts.kernel)),
        ("runtimes", facts.runtimes.join(" ")),
        ("totals", format!("{}, {}, {} disk", facts.totals.cpu, facts.totals.memory, facts.totals.disk)),
        ("load line", format!("{}, {}, {} disk", host.line.cpu, host.line.memory, host.line.disk)),
        (
            "reserved",
            format!(
                "{}, {}, {} disk by {} sandboxes",
                host.reserved.cpu, host.reserved.memory, host.reserved.disk, host.sandboxes
            ),
        ),
        ("used", load.map(|load| format!("{}, {}, {} disk", load.cpu, load.memory, load.disk)).unwrap_or_default()),
        ("inodes used", load.map(|load| permille(load.inodes_permille)).unwrap_or_default()),
        (
            "pressure",
            load.map(|load| {
                let [cpu, memory, io] =
                    [load.cpu_pressure_centipercent, load.memory_pressure_centipercent, load.io_pressure_centipercent]
                        .map(centipercent);
                format!("cpu {cpu}, memory {memory}, io {io}")
            })
            .unwrap_or_default(),
        ),
        ("labels", labels_of(&host.labels)),
        ("price", format!("{} an hour", price_of(host.price_milli_per_hour))),
        ("ports listen on", host.publish.to_string()),
        ("advertised as", host.advertise.clone().unwrap_or_default()),
        ("added", host.added_at.to_string()),
    ])
}

/// `key=value` sets, `key-` removes.
fn label_changes(changes: &[String]) -> Result<ChangeHost> {
    let mut wanted = ChangeHost::default();
    for change in changes {
        match change.strip_suffix('-').filter(|_| !change.contains('=')) {
            Some(key) => wanted.remove.push(key.to_owned()),
            None => {
                let label: Label = change.parse()?;
                wanted.set.insert(label.key, label.value);
            }
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_changes_set_and_remove() {
        let changes = label_changes(&["zone=eu".into(), "old-".into(), "dash=a-".into()]).expect("valid");
        assert_eq!(labels_of(&changes.set), "dash=a- zone=eu");
        assert_eq!(changes.remove, ["old"]);
        assert!(label_changes(&["zone".into()]).is_err());
    }
}

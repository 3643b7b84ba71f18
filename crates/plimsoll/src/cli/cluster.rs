//! `plimsoll cluster …`, `plimsoll key …` and `plimsoll events`.

use super::{
    args::{ClusterCommand, KeyCommand, KeyRole, Output},
    policy, print,
};
use anyhow::{Context as _, Result};
use plimsoll_client::{
    Client,
    wire::{ClusterStatus, CreateKey, Event, EventKind, Role},
};
use serde_json::json;

/// Runs one of the cluster commands.
pub async fn run(client: &Client, output: Output, command: &ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::Policy { command } => policy::run(client, output, command.as_ref()).await,
        ClusterCommand::Status => print::result(output, &client.cluster().await?, status),
        ClusterCommand::Token => {
            let token = client.join_token().await?;
            print::result(output, &json!({ "token": token.0 }), |_| format!("plimsoll join {}", token.0))
        }
        ClusterCommand::Remove { node } => {
            client.remove_node(*node).await?;
            print::result(output, &json!({ "removed": node }), |_| format!("node {node} removed"))
        }
        ClusterCommand::Transfer { node } => {
            let spinner = print::spinner(format!("handing leadership to node {node}"));
            let done = client.transfer_leadership(*node).await;
            spinner.finish_and_clear();
            done?;
            print::result(output, &json!({ "leader": node }), |_| format!("node {node} leads"))
        }
    }
}

fn status(status: &ClusterStatus) -> String {
    let header = ["NODE", "ROLE", "LEADER", "PEERS REACH IT AT", "API", "LOG", "SILENT"];
    let rows = status.nodes.iter().map(|node| {
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        vec![
            node.id.to_string(),
            format!("{:?}", node.role).to_lowercase(),
            if node.leader { "leads" } else { "" }.to_owned(),
            node.raft_address.clone(),
            node.api_url.clone(),
            known(node.matched.map(|index| index.to_string())),
            known(node.silent_ms.map(|ms| format!("{ms} ms"))),
        ]
    });
    let counted = |counts: &std::collections::BTreeMap<String, u64>| {
        let shown: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    };
    let facts = print::facts(&[
        ("cluster", status.cluster.map(|id| id.to_string()).unwrap_or_default()),
        ("asked", format!("node {} (plimsoll {})", status.node, status.version)),
        (
            "leader",
            status
                .leader
                .map_or_else(|| "none known: no quorum?".into(), |node| format!("node {node}, term {}", status.term)),
        ),
        ("applied", format!("{} of {}", status.applied, status.last_log)),
        ("hosts", counted(&status.hosts)),
        ("sandboxes", counted(&status.sandboxes)),
    ]);
    format!("{facts}\n\n{}", print::table(&header, rows))
}

/// Runs one of the key commands.
pub async fn keys(client: &Client, output: Output, command: &KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Create { name, role, tenant } => {
            let role = match role {
                KeyRole::Operator => Role::Operator,
                KeyRole::Platform => Role::Platform,
                KeyRole::Metrics => Role::Metrics,
            };
            let request = CreateKey { name: name.clone(), role, tenant: Some(tenant.clone()) };
            let made = client.create_key(&request).await?;
            print::note("This key is shown once; only its hash is kept.");
            print::result(output, &made, |made| made.secret.0.clone())
        }
        KeyCommand::List => {
            let keys = client.keys().await?;
            print::result(output, &keys, |keys| {
                let rows = keys.iter().map(|key| {
                    let role = format!("{:?}", key.role).to_lowercase();
                    vec![key.id.to_string(), key.name.clone(), role, key.tenant.to_string(), key.created_at.to_string()]
                });
                print::table(&["KEY", "NAME", "ROLE", "TENANT", "CREATED"], rows)
            })
        }
        KeyCommand::Revoke { key } => {
            client.revoke_key(*key).await?;
            print::result(output, &json!({ "revoked": key }), |_| format!("{key} revoked"))
        }
    }
}

/// `plimsoll events`
pub async fn events(client: &Client, output: Output, follow: bool, after: Option<&str>) -> Result<()> {
    let mut after = after.map(str::parse).transpose().context("--after")?;
    // Without --follow, what is kept up to now is shown: the stream is read until it reaches where the cluster is.
    let end = if follow { None } else { Some(client.cluster().await?.applied) };
    if !follow && after.is_none() {
        after = Some(plimsoll_client::wire::EventId::default());
    }
    let mut events = client.events(after).await?;
    while let Some(event) = next(&mut events, end).await? {
        match output {
            Output::Json => print::line(&serde_json::to_string(&event)?)?,
            Output::Table => print::line(&described(&event))?,
        }
    }
    Ok(())
}

/// The next event. A stream that is only read up to now ends once nothing more is on its way.
async fn next(events: &mut plimsoll_client::EventStream, end: Option<u64>) -> Result<Option<Event>> {
    /// What is kept is sent at once; a pause this long means that it has all arrived.
    const QUIET: std::time::Duration = std::time::Duration::from_secs(1);
    let Some(end) = end else { return Ok(events.next().await?) };
    match tokio::time::timeout(QUIET, events.next()).await {
        Ok(event) => Ok(event?.filter(|event| event.index <= end)),
        Err(_) => Ok(None),
    }
}

fn described(event: &Event) -> String {
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let what = match &event.kind {
        EventKind::Sandbox { sandbox, phase, generation, host, reason, .. } => {
            let host = host.as_deref().map(|host| format!(" on {host}")).unwrap_or_default();
            format!("{sandbox} {phase} (generation {generation}){host}{}", because(reason))
        }
        EventKind::Deadline { sandbox, deadline, .. } => {
            let deadline = deadline.map_or_else(|| "never".to_owned(), |deadline| deadline.to_string());
            format!("{sandbox} expires {deadline}")
        }
        EventKind::Host { host, change, .. } => format!("{host} {change}"),
        EventKind::Cluster { change } => change.clone(),
    };
    format!("{}  {:<12} {what}", event.at, event.id().to_string())
}

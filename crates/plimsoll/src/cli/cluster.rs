//! `plimsoll cluster …` and `plimsoll key …`.

use super::{
    args::{ClusterCommand, KeyCommand, KeyRole, Output},
    backup, drift, policy, print,
};
use anyhow::Result;
use plimsoll_client::{
    Client,
    wire::{ClusterStatus, CreateKey, Hold, Role},
};
use serde_json::json;

/// Runs one of the cluster commands.
pub async fn run(client: &Client, output: Output, command: &ClusterCommand) -> Result<()> {
    match command {
        ClusterCommand::Policy { command } => policy::run(client, output, command.as_ref()).await,
        ClusterCommand::Backup(args) => backup::run(client, output, args).await,
        ClusterCommand::Drift(args) => drift::run(client, output, args).await,
        ClusterCommand::Hold { reason } => drift::hold(client, output, reason).await,
        ClusterCommand::Resume { force } => drift::resume(client, output, *force).await,
        // Of a folder, not of a running cluster: the daemon's.
        ClusterCommand::Restore(_) => Ok(()),
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
        ("on hold", status.hold.as_ref().map(held).unwrap_or_default()),
        ("hosts", counted(&status.hosts)),
        ("sandboxes", counted(&status.sandboxes)),
    ]);
    format!("{facts}\n\n{}", print::table(&header, rows))
}

fn held(hold: &Hold) -> String {
    format!("since {} ({}): see plimsoll cluster drift, then plimsoll cluster resume", hold.since, hold.reason)
}

/// `plimsoll logs-level`
pub async fn log_level(client: &Client, output: Output, filter: Option<&str>) -> Result<()> {
    let now = match filter {
        Some(filter) => client.set_log_level(filter).await?,
        None => client.log_level().await?,
    };
    print::result(output, &now, |now| format!("node {} logs {}", now.node, now.filter))
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

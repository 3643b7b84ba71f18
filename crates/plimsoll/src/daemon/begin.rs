//! `plimsoll init` and `plimsoll join`: what a person runs once on a machine.

use super::{
    configured,
    found::{found, raft_options},
};
use crate::cli::{
    args::{JoinArgs, NodeArgs, Output},
    context, print,
};
use anyhow::{Context as _, Result};
use plimsoll_raft::Node;
use std::io::Read as _;

/// `plimsoll init`
///
/// # Errors
/// When the folder holds a node already or cannot be written.
pub async fn init(args: &NodeArgs, output: Output) -> Result<()> {
    let config = configured(args)?;
    let spinner = print::spinner("making a cluster".into());
    let founded = found(&config).await;
    spinner.finish_and_clear();
    let founded = founded?;
    let saved = context::save(&founded.access()).map(|path| format!("saved for this user in {}", path.display()));
    print::result(output, &founded, |founded| {
        format!(
            "cluster {} begins with node {}\noperator key  {}\n              shown once; {}\n\nnext: plimsoll server{}",
            founded.cluster,
            founded.node,
            founded.key,
            saved.unwrap_or_else(|error| format!("not saved: {error:#}")),
            args.config.as_ref().map(|path| format!(" --config {}", path.display())).unwrap_or_default(),
        )
    })
}

/// `plimsoll join`
///
/// # Errors
/// When the token is refused, no member answers, or the folder holds a node already.
pub async fn join(args: &JoinArgs, output: Output) -> Result<()> {
    let config = configured(&args.node)?;
    let mut token = args.token.clone();
    if token == "-" {
        token.clear();
        std::io::stdin().take(64 << 10).read_to_string(&mut token).context("cannot read the token")?;
    }
    let options = raft_options(&config);
    let spinner = print::spinner("joining".into());
    let joined = Node::enroll(&options, token.trim()).await;
    spinner.finish_and_clear();
    joined?;
    let (cluster, node) = Node::peek(&options.data_dir)?;
    print::result(output, &serde_json::json!({ "cluster": cluster, "node": node }), |_| {
        format!("this machine is node {node} of {cluster}\nnext: plimsoll server")
    })
}

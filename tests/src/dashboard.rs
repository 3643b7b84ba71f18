//! The repository's Grafana dashboard as data: its panels' queries with their variables filled in as Grafana fills them.

use crate::Prometheus;
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// What Grafana takes for `$__rate_interval` when a day is shown: the step of a panel, and never less than four scrapes of 15 s.
const RATE_INTERVAL: &str = "5m";

/// One query of one panel.
#[derive(Clone, Debug)]
pub struct Query {
    /// The row that the panel stands in.
    pub row: String,
    /// The panel's title.
    pub title: String,
    /// The expression as it stands in the file, with variables.
    pub expr: String,
}

/// The dashboard.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Every query, in the order of the panels.
    pub queries: Vec<Query>,
    /// Variables that ask Prometheus for their values: name, expression, label.
    variables: Vec<(String, String, String)>,
}

impl Dashboard {
    /// Reads `deploy/grafana/plimsoll.json`.
    ///
    /// # Errors
    /// When it is not what is expected here.
    pub fn read() -> Result<Self> {
        let root: Value = serde_json::from_str(include_str!("../../deploy/grafana/plimsoll.json"))?;
        let (mut queries, mut row) = (Vec::new(), String::new());
        for panel in root["panels"].as_array().context("panels")? {
            let title = panel["title"].as_str().context("a panel has a title")?;
            if panel["type"] == "row" {
                title.clone_into(&mut row);
            }
            // A row that is folded up holds its panels itself.
            for panel in std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()) {
                for target in panel["targets"].as_array().into_iter().flatten() {
                    let title = panel["title"].as_str().context("a panel has a title")?.to_owned();
                    let expr = target["expr"].as_str().context("a target has an expression")?.to_owned();
                    queries.push(Query { row: row.clone(), title, expr });
                }
            }
        }
        let mut variables = Vec::new();
        for variable in root["templating"]["list"].as_array().context("variables")? {
            if variable["type"] == "query" {
                let name = variable["name"].as_str().context("a name")?;
                ensure!(variable["allValue"] == ".*", "All of {name} is {}", variable["allValue"]);
                let definition = variable["definition"].as_str().context("a definition")?;
                let inner = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
                let (expr, label) = inner.and_then(|text| text.rsplit_once(", ")).context("label_values(…, …)")?;
                variables.push((name.to_owned(), expr.to_owned(), label.to_owned()));
            }
        }
        Ok(Self { queries, variables })
    }

    /// Every variable with "All" chosen.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, String> {
        self.variables.iter().map(|(name, ..)| (name.clone(), ".*".to_owned())).collect()
    }

    /// What a person can choose for a variable, as Grafana asks for it.
    ///
    /// # Errors
    /// When there is no such variable, or Prometheus refuses.
    pub async fn choices(&self, prometheus: &Prometheus, name: &str) -> Result<Vec<String>> {
        let found = self.variables.iter().find(|(known, ..)| known == name);
        let (_, expr, label) = found.with_context(|| format!("no variable {name}"))?;
        let expr = filled(expr, &self.all())?;
        let path = format!("/api/v1/label/{label}/values");
        let data = prometheus.data(&path, &[("match[]", &expr)]).await?;
        Ok(serde_json::from_value(data)?)
    }
}

/// An expression with every variable filled in.
///
/// # Errors
/// When one is left.
pub fn filled(expr: &str, variables: &BTreeMap<String, String>) -> Result<String> {
    let mut filled = expr.replace("$__rate_interval", RATE_INTERVAL);
    for (name, value) in variables {
        filled = filled.replace(&format!("${name}"), value);
    }
    ensure!(!filled.contains('$'), "a variable is left in {filled}");
    Ok(filled)
}

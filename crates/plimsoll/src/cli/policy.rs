//! `plimsoll cluster policy …`: the rules as the API names them, so that a newer node's rules need no newer command line.

use super::{
    args::{Output, PolicyCommand},
    parse::wrong,
    print,
};
use anyhow::{Context as _, Result};
use plimsoll_client::{Client, wire::Policy};
use serde_json::{Map, Value};

/// Not a rule: which version of them was read.
const REVISION: &str = "revision";

/// Runs one of the policy commands.
pub async fn run(client: &Client, output: Output, command: Option<&PolicyCommand>) -> Result<()> {
    let policy = client.cluster_policy().await?;
    let policy = match command {
        None | Some(PolicyCommand::Show) => policy,
        // The revision goes back with it: what another operator changes meanwhile is not undone.
        Some(PolicyCommand::Set { rules }) => client.set_cluster_policy(&changed(&policy, rules)?).await?,
    };
    let rules = rules_of(&policy)?;
    print::result(output, &policy, |_| {
        let rows = rules.iter().filter(|(rule, _)| *rule != REVISION);
        print::table(&["RULE", "VALUE"], rows.map(|(rule, value)| vec![rule.clone(), shown(value)]))
    })
}

fn rules_of(policy: &Policy) -> Result<Map<String, Value>> {
    match serde_json::to_value(policy).context("the policy cannot be shown")? {
        Value::Object(rules) => Ok(rules),
        other => anyhow::bail!("the policy is no object: {other}"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The policy with these rules changed. What a value must look like is the API's to judge.
fn changed(policy: &Policy, changes: &[String]) -> Result<Policy> {
    let mut rules = rules_of(policy)?;
    for change in changes {
        let Some((rule, value)) = change.split_once('=') else {
            return wrong(format!("{change:?} has no '='; write RULE=VALUE"));
        };
        let known: Vec<&str> = rules.keys().map(String::as_str).filter(|rule| *rule != REVISION).collect();
        if !known.contains(&rule) {
            return wrong(format!("there is no rule {rule:?}; there are {}", known.join(", ")));
        }
        let read = match value {
            "" => Value::Null,
            number if number.parse::<u64>().is_ok() && !matches!(rules.get(rule), Some(Value::String(_))) => {
                number.parse::<u64>()?.into()
            }
            text => text.into(),
        };
        let before = rules.insert(rule.to_owned(), read);
        if let Err(error) = serde_json::from_value::<Policy>(Value::Object(rules.clone())) {
            let before = before.map(|value| shown(&value)).unwrap_or_default();
            return wrong(format!("{rule} cannot be {value:?}: {error}; it is {before:?} now"));
        }
    }
    serde_json::from_value(Value::Object(rules)).context("the policy cannot be changed so")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        serde_json::from_value(serde_json::json!({
            "revision": "7", "cpu_overcommit_permille": 1000, "memory_reserve": 1 << 30, "disk_reserve": 2_u64 << 30,
            "cpu_pressure_max_centipercent": 10_000, "memory_pressure_max_centipercent": 2000,
            "io_pressure_max_centipercent": 9500, "queue_limit": 10_000, "retention_s": 86_400,
            "idempotency_ttl_s": 86_400, "events_kept": 10_000, "name_prefix": "shadow",
            "data_dir": "/var/shadow/sandboxes", "base_image": null, "invented": 4
        }))
        .expect("a policy")
    }

    fn set(rules: &[&str]) -> Result<Map<String, Value>> {
        let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
        rules_of(&changed(&policy(), &rules)?)
    }

    #[test]
    fn rules_change_and_the_rest_stays_with_its_revision() {
        let rules =
            set(&["queue_limit=5", "memory_reserve=1.5GiB", "base_image=shadow:2", "name_prefix=7", "invented=5"]);
        let rules = rules.expect("valid");
        assert_eq!(rules["queue_limit"], 5);
        assert_eq!(rules["memory_reserve"], 1536 << 20);
        assert_eq!(rules["base_image"], "shadow:2");
        assert_eq!(rules["name_prefix"], "7", "a name of digits is a name");
        assert_eq!(rules["invented"], 5, "rules of a newer release can be set");
        assert_eq!((&rules["retention_s"], &rules["revision"]), (&86_400.into(), &"7".into()));
        assert_eq!(set(&["base_image=a", "base_image="]).expect("valid")["base_image"], Value::Null);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (rule, said) in [
            ("queue_limit", "RULE=VALUE"),
            ("queue_limt=5", "there are base_image"),
            ("revision=9", "no rule"),
            ("queue_limit=many", "queue_limit cannot be"),
            ("memory_reserve=", "memory_reserve cannot be"),
        ] {
            let error = format!("{:#}", set(&[rule]).expect_err(rule));
            assert!(error.contains(said), "{rule}: {error}");
        }
    }
}

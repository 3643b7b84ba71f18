//! The configuration of a pushed image, reset to that of the image its sandbox was made from.
//!
//! `docker commit` writes the container's environment, labels and command into the image; none of that may travel with a snapshot.

use plimsoll_types::SnapshotId;
use serde_json::{Map, Value, json};

/// What a snapshot's configuration keeps of its base image's.
const KEPT: [&str; 10] =
    ["Env", "Labels", "Cmd", "Entrypoint", "User", "WorkingDir", "Volumes", "ExposedPorts", "StopSignal", "Shell"];
/// What else of an image's configuration is kept: what it is, and what it consists of.
const IMAGE: [&str; 6] = ["architecture", "os", "variant", "created", "rootfs", "history"];

/// The configuration as it may be stored. `base` is the `Config` of the base image as Docker's inspect says it, `base_layers`
/// the diff ids of its layers.
pub(crate) fn config(pushed: &Value, base: &Value, base_layers: &[String], snapshot: SnapshotId) -> Value {
    let mut sealed = Map::new();
    for key in IMAGE {
        if let Some(value) = pushed.get(key) {
            sealed.insert(key.to_owned(), value.clone());
        }
    }
    let mut config = Map::new();
    for key in KEPT {
        let value = base.get(key).filter(|value| !value.is_null());
        if let Some(value) = value {
            config.insert(key.to_owned(), if key == "Labels" { foreign(value) } else { value.clone() });
        }
    }
    sealed.insert("config".to_owned(), Value::Object(config));
    let of_base = starts_with(pushed, base_layers);
    if let Some(history) = sealed.get_mut("history").and_then(Value::as_array_mut) {
        let ours = first_of_ours(history, if of_base { base_layers.len() } else { 0 });
        for entry in history.iter_mut().skip(ours) {
            *entry = anonymous(entry, snapshot);
        }
    }
    Value::Object(sealed)
}

/// The diff ids of an image's layers, in order.
pub(crate) fn layers(config: &Value) -> Vec<String> {
    let ids = config.get("rootfs").and_then(|rootfs| rootfs.get("diff_ids")).and_then(Value::as_array);
    ids.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn starts_with(pushed: &Value, base_layers: &[String]) -> bool {
    layers(pushed).starts_with(base_layers)
}

/// Labels that are not ours: a snapshot must never pass for a container's or an image's owner.
fn foreign(labels: &Value) -> Value {
    let kept = labels.as_object().into_iter().flatten().filter(|(name, _)| !name.starts_with("plimsoll."));
    Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Where the entries begin that commits of ours added: after those of the base image's layers. Entries without a layer that follow are
/// the base image's too, unless a commit found nothing to add; as that cannot be told apart, they count as ours.
fn first_of_ours(history: &[Value], base_layers: usize) -> usize {
    let mut layers = 0;
    for (at, entry) in history.iter().enumerate() {
        if layers == base_layers {
            return at;
        }
        if entry.get("empty_layer").and_then(Value::as_bool) != Some(true) {
            layers += 1;
        }
    }
    history.len()
}

/// An entry that says when and that it was us, and not what ran in the sandbox.
fn anonymous(entry: &Value, snapshot: SnapshotId) -> Value {
    let mut kept = Map::new();
    for key in ["created", "empty_layer"] {
        if let Some(value) = entry.get(key) {
            kept.insert(key.to_owned(), value.clone());
        }
    }
    kept.insert("created_by".to_owned(), json!(format!("plimsoll snapshot {snapshot}")));
    Value::Object(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_container_is_left() {
        let pushed = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": { "Hostname": "CANARY", "Env": ["A=CANARY"], "Cmd": ["CANARY"], "Labels": { "plimsoll.cluster": "CANARY" } },
            "container": "CANARY", "container_config": { "Cmd": ["CANARY"] }, "docker_version": "20.10",
            "rootfs": { "type": "layers", "diff_ids": ["sha256:a", "sha256:b", "sha256:c"] },
            "history": [
                { "created": "1", "created_by": "base" },
                { "created": "2", "created_by": "CANARY" },
                { "created": "3", "created_by": "CANARY", "author": "CANARY", "empty_layer": true },
                { "created": "4", "created_by": "CANARY", "comment": "CANARY" },
            ],
        });
        let base = json!({
            "Env": ["PATH=/bin"], "Cmd": null, "User": "user", "Hostname": "x",
            "Labels": { "plimsoll.sandbox": "sb", "vendor": "v" },
        });
        let sealed = config(&pushed, &base, &["sha256:a".to_owned()], SnapshotId::from_parts(1, 1));
        assert!(!sealed.to_string().contains("CANARY"), "{sealed}");
        assert_eq!(sealed["config"], json!({ "Env": ["PATH=/bin"], "User": "user", "Labels": { "vendor": "v" } }));
        assert_eq!(sealed["history"][0]["created_by"], "base");
        assert_eq!(sealed["history"][2]["empty_layer"], true);
        assert_eq!(sealed["rootfs"], pushed["rootfs"]);
        // A squashed image has nothing of the base image's.
        let squashed = config(&pushed, &base, &["sha256:z".to_owned()], SnapshotId::from_parts(1, 1));
        assert_ne!(squashed["history"][0]["created_by"], "base");
    }
}

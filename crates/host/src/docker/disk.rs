//! What takes room on a host's disk, as Docker's own accounting (`docker system df`) tells it. Looks only: nothing here removes anything.

use super::{Api, raw};
use crate::{access::Class, error};
use plimsoll_lifecycle::{
    naming::{self, label},
    ports::{DiskUse, Eaters, HostError},
};
use plimsoll_types::{Bytes, ClusterId, Code};
use serde_json::Value;

/// Longest account: a thousand images take about a megabyte.
const MAX_ACCOUNT: usize = 16 << 20;
/// How much of a name is told; some are digests.
const NAME: usize = 60;

/// Asks Docker for its account and sorts it by whose things are.
pub(crate) async fn usage(api: &Api, cluster: ClusterId) -> Result<DiskUse, HostError> {
    let answer = api.stream(Class::Call, |path| raw::get(&path), "/system/df").await;
    let answer = answer.map_err(|e| error::docker("ask for the use of the disk", e))?;
    let account = raw::json_within(answer, MAX_ACCOUNT).await;
    sorted(&account.map_err(|e| error::docker("ask for the use of the disk", e))?, cluster)
}

fn sorted(account: &Value, cluster: ClusterId) -> Result<DiskUse, HostError> {
    // An engine that answers in another shape is better not judged at all than by half.
    let list = |kind: &str| match account.get(kind) {
        Some(Value::Array(each)) => Ok(each.as_slice()),
        Some(Value::Null) => Ok(&[][..]),
        Some(_) | None => Err(error::permanent(Code::Unsupported, format!("this Docker gives no account of {kind}"))),
    };
    let text = cluster.to_string();
    let ours = |thing: &&Value| thing["Labels"][label::CLUSTER] == text.as_str();
    let snapshots = format!("{}:", naming::snapshot_images(cluster));
    let taken = |image: &&Value| {
        let names = image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        ours(image) || names.into_iter().any(|name| name.starts_with(&snapshots))
    };
    let (images, containers, volumes) = (list("Images")?, list("Containers")?, list("Volumes")?);
    let cache = list("BuildCache").unwrap_or_default();
    Ok(DiskUse {
        snapshots: sum(images.iter().filter(taken).map(alone)),
        sandboxes: sum(containers.iter().filter(ours).map(|it| size(&it["SizeRw"]))),
        images: Eaters::of(images.iter().filter(|it| !taken(it)).map(|it| (image_name(it), alone(it)))),
        containers: Eaters::of(
            containers.iter().filter(|it| !ours(it)).map(|it| (name(&it["Names"][0], &it["Id"]), size(&it["SizeRw"]))),
        ),
        volumes: Eaters::of(
            volumes
                .iter()
                .filter(|it| !ours(it))
                .map(|it| (name(&it["Name"], &it["Name"]), size(&it["UsageData"]["Size"]))),
        ),
        build_cache: sum(cache.iter().filter(|it| it["Shared"] != true).map(|it| size(&it["Size"]))),
    })
}

/// What would be free if only this image went: layers that others share stay.
fn alone(image: &Value) -> Bytes {
    size(&image["Size"]).saturating_sub(size(&image["SharedSize"]))
}

/// Docker says -1 where it does not know.
fn size(value: &Value) -> Bytes {
    Bytes(value.as_i64().and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
}

fn sum(sizes: impl Iterator<Item = Bytes>) -> Bytes {
    Bytes(sizes.map(|size| size.0).fold(0, u64::saturating_add))
}

fn image_name(image: &Value) -> String {
    let named = image["RepoTags"].as_array().into_iter().flatten().find(|name| **name != "<none>:<none>");
    name(named.unwrap_or(&Value::Null), &image["Id"])
}

/// Names come from whoever made the thing, and are shown to people: one line, not too long.
fn name(name: &Value, id: &Value) -> String {
    let text =
        name.as_str().or_else(|| id.as_str()).unwrap_or("?").trim_start_matches('/').trim_start_matches("sha256:");
    text.chars().filter(|c| c.is_ascii_graphic()).take(if name.is_string() { NAME } else { 12 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_account_is_sorted_by_whose_things_are() {
        let cluster: ClusterId = "cl-00000000000000000000000001".parse().unwrap_or_else(|_| panic!("an id"));
        let labels = json!({ label::CLUSTER: cluster.to_string() });
        let account = json!({
            "LayersSize": 1000,
            "Images": [
                { "Id": "sha256:aaaaaaaaaaaaaaaaaaaa", "RepoTags": null, "Size": 500, "SharedSize": 100, "Labels": null },
                { "Id": "sha256:b", "RepoTags": ["big:latest"], "Size": 700, "SharedSize": -1, "Labels": {} },
                { "Id": "sha256:c", "RepoTags": [format!("plimsoll-snapshot/{cluster}:sn-1")], "Size": 50, "SharedSize": 20, "Labels": null },
            ],
            "Containers": [
                { "Id": "x", "Names": ["/theirs"], "SizeRw": 9, "Labels": {} },
                { "Id": "y", "Names": ["/ours"], "SizeRw": 4, "Labels": labels },
                { "Id": "z", "Names": ["/idle"], "Labels": {} },
            ],
            "Volumes": [
                { "Name": "db", "Labels": null, "UsageData": { "Size": 80 } },
                { "Name": "ws", "Labels": labels, "UsageData": { "Size": 90 } },
            ],
            "BuildCache": [{ "Size": 7, "Shared": false }, { "Size": 8, "Shared": true }],
        });
        let found = sorted(&account, cluster).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((found.snapshots, found.sandboxes, found.build_cache), (Bytes(30), Bytes(4), Bytes(7)));
        assert_eq!(found.images.largest, [("big:latest".into(), Bytes(700)), ("aaaaaaaaaaaa".into(), Bytes(400))]);
        assert_eq!((found.images.size, found.images.count), (Bytes(1100), 2));
        assert_eq!(found.containers.largest, [("theirs".into(), Bytes(9))]);
        assert_eq!(found.volumes.largest, [("db".into(), Bytes(80))]);
        assert!(
            sorted(&json!({ "ImageUsage": {} }), cluster).is_err(),
            "a shape that is not understood is no empty disk"
        );
    }
}

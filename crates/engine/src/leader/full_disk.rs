//! What fills a host's disk, in a sentence for its operator. What is not this cluster's is named and never touched.

use plimsoll_lifecycle::ports::{DiskUse, Eaters};
use plimsoll_types::{Bytes, HostFacts, MeasuredLoad};

/// Longest sentence: it is replicated, and stands in a terminal.
const LENGTH: usize = 900;

/// `disk 97 % full (233 GiB of 240 GiB): 41 GiB in 12 images (builder:3 20 GiB, …), 12 GiB build cache; nothing of it is touched`. Without
/// an account only how full it is.
pub(super) fn sentence(facts: &HostFacts, load: &MeasuredLoad, account: Option<&DiskUse>) -> String {
    let total = facts.totals.disk;
    let percent = |part: Bytes| u128::from(part.0) * 100 / u128::from(total.0.max(1));
    let mut text = format!("disk {} % full ({} of {total})", percent(load.disk), load.disk);
    if load.inodes_permille > 0 {
        text.push_str(&format!(", inodes {} %", load.inodes_permille / 10));
    }
    let Some(account) = account else {
        text.push_str("; Docker gave no account of what fills it: `docker system df` on the host");
        return text;
    };
    let mut parts = Vec::new();
    parts.extend(eaters(&account.images, "image", " that are no snapshots of ours"));
    parts.extend(some(account.build_cache, "build cache"));
    parts.extend(eaters(&account.volumes, "volume", " not ours"));
    parts.extend(eaters(&account.containers, "container", " not ours"));
    let theirs = !parts.is_empty();
    parts.extend(some(account.snapshots, "snapshots of ours"));
    parts.extend(some(account.sandboxes, "written by sandboxes"));
    let (images, volumes, containers) = (&account.images, &account.volumes, &account.containers);
    let known = [images.size, volumes.size, containers.size, account.build_cache, account.snapshots, account.sandboxes];
    let known = known.iter().fold(Bytes::ZERO, |sum, part| sum.saturating_add(*part));
    // Layers that images share, workspaces, logs and whatever else lies on the same disk.
    parts.extend(some(load.disk.saturating_sub(known), "in workspaces, shared layers and files outside Docker"));
    text.push_str(": ");
    text.push_str(&parts.join(", "));
    if theirs {
        text.push_str("; what is not ours is never touched");
    }
    text.chars().take(LENGTH).collect()
}

fn some(size: Bytes, what: &str) -> Option<String> {
    (size != Bytes::ZERO).then(|| format!("{size} {what}"))
}

fn eaters(of: &Eaters, what: &str, whose: &str) -> Option<String> {
    let names: Vec<String> = of.largest.iter().map(|(name, size)| format!("{name} {size}")).collect();
    let (size, count, plural) = (of.size, of.count, if of.count == 1 { "" } else { "s" });
    (size != Bytes::ZERO).then(|| format!("{size} in {count} {what}{plural}{whose} ({})", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_types::Resources;

    #[test]
    fn every_eater_is_named_with_its_largest() {
        let facts =
            HostFacts { totals: Resources { disk: Bytes::gib(240), ..Resources::ZERO }, ..HostFacts::default() };
        let load = MeasuredLoad { disk: Bytes::gib(233), inodes_permille: 123, ..MeasuredLoad::default() };
        let images = (1..=5).map(|n| (format!("old:{n}"), Bytes::gib(n)));
        let account = DiskUse {
            images: Eaters::of(images),
            volumes: Eaters::of([("db".to_owned(), Bytes::gib(8))]),
            build_cache: Bytes::gib(12),
            snapshots: Bytes::gib(2),
            ..DiskUse::default()
        };
        assert_eq!(
            sentence(&facts, &load, Some(&account)),
            "disk 97 % full (233 GiB of 240 GiB), inodes 12 %: 15 GiB in 5 images that are no snapshots of ours (old:5 5 GiB, old:4 4 GiB, \
             old:3 3 GiB), 12 GiB build cache, 8 GiB in 1 volume not ours (db 8 GiB), 2 GiB snapshots of ours, 196 GiB in workspaces, \
             shared layers and files outside Docker; what is not ours is never touched"
        );
        assert!(sentence(&facts, &load, None).ends_with("on the host"));
    }
}

//! The lab's sandbox image: Debian's static busybox and a user, built here because a lab reaches no registry.
//!
//! It is written in the format of `docker save`, so every host gets the same image id.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::command::{require, run};

/// The image sandboxes of the lab are made from: busybox, user `user` (1000), working directory `/workspace`.
pub const LAB_IMAGE: &str = "plimsoll/lab:latest";

/// The same image, but its command ends at once with exit code 1.
pub const LAB_IMAGE_EXITS: &str = "plimsoll/lab:tiny-exit";

/// The uid and gid of the image's user.
pub const LAB_USER: u64 = 1000;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nuser:x:1000:\n";

/// Folders with their mode and owner; parents before children.
const FOLDERS: [(&str, u32, u64); 11] = [
    ("bin", 0o755, 0),
    ("sbin", 0o755, 0),
    ("usr", 0o755, 0),
    ("usr/bin", 0o755, 0),
    ("usr/sbin", 0o755, 0),
    ("etc", 0o755, 0),
    ("root", 0o700, 0),
    ("home", 0o755, 0),
    ("home/user", 0o755, LAB_USER),
    ("tmp", 0o1777, 0),
    ("workspace", 0o755, LAB_USER),
];

/// Writes both images to one archive that `docker load` takes.
pub(super) async fn build(archive: &Path) -> Result<()> {
    let busybox = require("busybox")?;
    let applets = run(&busybox, ["--list-full"]).await?;
    let binary = fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    let layer = root_filesystem(&binary, &applets)?;
    let layer_digest = digest(&layer);

    let mut images = Builder::new(Vec::new());
    let mut manifest = Vec::new();
    for (tag, cmd) in [(LAB_IMAGE, json!(["sleep", "infinity"])), (LAB_IMAGE_EXITS, json!(["sh", "-c", "exit 1"]))] {
        let config = config(&layer_digest, &cmd).to_string();
        let config_name = format!("{}.json", digest(config.as_bytes()));
        add_file(&mut images, &config_name, 0o644, config.as_bytes())?;
        manifest.push(json!({ "Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"] }));
    }
    add_file(&mut images, "layer.tar", 0o644, &layer)?;
    add_file(&mut images, "manifest.json", 0o644, Value::from(manifest).to_string().as_bytes())?;
    let bytes = images.into_inner().context("cannot finish the image archive")?;
    fs::write(archive, bytes).with_context(|| format!("cannot write {}", archive.display()))
}

fn config(layer_digest: &str, cmd: &Value) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": "user",
            "WorkingDir": "/workspace",
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/user"],
            "Cmd": cmd,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "comment": "plimsoll lab" }],
    })
}

fn root_filesystem(busybox: &[u8], applets: &str) -> Result<Vec<u8>> {
    let mut root = Builder::new(Vec::new());
    for (folder, mode, owner) in FOLDERS {
        let mut header = header(EntryType::Directory, mode, owner, 0);
        root.append_data(&mut header, format!("{folder}/"), std::io::empty())?;
    }
    add_file(&mut root, "etc/passwd", 0o644, PASSWD.as_bytes())?;
    add_file(&mut root, "etc/group", 0o644, GROUP.as_bytes())?;
    add_file(&mut root, "bin/busybox", 0o755, busybox)?;
    // Only where there is a folder for it, and never over busybox itself, which some builds list.
    let in_folder =
        |applet: &&str| applet.rsplit_once('/').is_some_and(|(folder, _)| FOLDERS.iter().any(|f| f.0 == folder));
    for applet in applets.lines().filter(in_folder).filter(|applet| *applet != "bin/busybox").collect::<BTreeSet<_>>() {
        let mut header = header(EntryType::Symlink, 0o777, 0, 0);
        root.append_link(&mut header, applet, "/bin/busybox")?;
    }
    root.into_inner().context("cannot finish the root filesystem")
}

fn add_file(archive: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = header(EntryType::Regular, mode, 0, content.len() as u64);
    archive.append_data(&mut header, path, content).with_context(|| format!("cannot add {path} to the image"))
}

fn header(kind: EntryType, mode: u32, owner: u64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_size(size);
    header.set_mtime(0);
    header
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

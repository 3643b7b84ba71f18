//! The sandbox base image as sandboxes run it: built elsewhere (`deploy/image/build.sh --out FILE`), because that takes minutes and a
//! Debian mirror. `PLIMSOLL_SANDBOX_IMAGE` names the file.

use crate::{
    operations::curl,
    world::{PATIENCE, World},
};
use anyhow::{Context as _, Result, ensure};
use plimsoll_testkit::wait::wait_for;

/// What the file's image is called.
const IMAGE: &str = "shadow-sandbox:latest";
/// What a coding agent does in its first minute.
const WORK: &str = "cd /workspace && git init -q app && cd app && echo 'print(6 * 7)' > a.py && git add a.py && \
    git -c user.name=a -c user.email=a@b commit -qm first && python3 a.py && node -e 'console.log(6 * 7)' && id -un && \
    command -v curl rg jq >/dev/null && echo all";
/// A development server, as an agent would start it.
const SERVE: &str = "cd /workspace/app && nohup python3 -m http.server 5173 >/dev/null 2>&1 &";

/// A coding agent's tools work in it as the sandbox's user, its preview port shows what is served, and what it did is there after a pause.
pub async fn the_base_image_serves(world: &mut World) -> Result<()> {
    let Some(file) = std::env::var_os("PLIMSOLL_SANDBOX_IMAGE") else {
        println!(
            "     === SKIPPED: PLIMSOLL_SANDBOX_IMAGE names no file; build one with deploy/image/build.sh --out FILE ==="
        );
        return Ok(());
    };
    let host = world.lab.host(2);
    let file = file.to_str().context("PLIMSOLL_SANDBOX_IMAGE")?;
    host.docker(&["load", "--quiet", "--input", file]).await?;
    world.cli().run(&["host", "label", host.name(), "base=yes"]).await?;
    let args = [
        "--image",
        IMAGE,
        "--constraint",
        "base=yes",
        "--memory",
        "512M",
        "--cpu",
        "1",
        "--port",
        "20000",
        "--",
        "sandbox-services",
    ];
    let id = world.create(&args).await?;
    let said = world.cli().run(&["exec", &id, "sh", "-c", WORK]).await?;
    ensure!(said.lines().collect::<Vec<_>>() == ["42", "42", "user", "all"], "{said}");
    world.cli().run(&["exec", &id, "sh", "-c", SERVE]).await?;
    let url = world.cli().json(&["inspect", &id]).await?["preview_url"].as_str().context("a preview")?.to_owned();
    wait_for("the preview to show what is served", PATIENCE, || async {
        let page = curl(&[&format!("{url}/a.py")]).await?;
        ensure!(page == "print(6 * 7)", "{page}");
        anyhow::Ok(())
    })
    .await?;
    world.cli().run(&["pause", &id]).await?;
    let log = world.cli().run(&["exec", &id, "git", "-C", "/workspace/app", "log", "--format=%s"]).await?;
    ensure!(log == "first", "after a pause: {log}");
    world.cli().run(&["rm", &id]).await?;
    world.cli().run(&["host", "label", host.name(), "base-"]).await?;
    host.docker(&["rmi", "--force", IMAGE]).await.map(drop)
}

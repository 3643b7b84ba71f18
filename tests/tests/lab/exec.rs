//! Commands and files in sandboxes, as a platform uses them.

use crate::world::World;
use anyhow::{Context as _, Result, ensure};

/// Exit codes, environment, folder, user, and clear errors for what cannot start.
pub async fn commands(world: &mut World) -> Result<()> {
    let (cli, id) = (world.cli(), world.create(&["--env", "PLAIN=yes"]).await?);
    let id = id.as_str();
    let out = cli
        .output(&["exec", "-e", "WHO=you", "-w", "/tmp", id, "sh", "-c", "echo $PLAIN-$WHO-$PWD; echo bad >&2; exit 7"])
        .await?;
    ensure!(out.status.code() == Some(7), "{out:?}");
    ensure!(out.stdout == b"yes-you-/tmp\n" && out.stderr == b"bad\n", "{out:?}");
    // argv is argv: nothing is read by a shell on the way.
    let said = cli.run(&["exec", id, "echo", "$(id); 'x' \"y\" *"]).await?;
    ensure!(said == "$(id); 'x' \"y\" *", "{said}");
    for (args, needle) in [
        (&["exec", id, "no-such-program"][..], "no-such-program"),
        (&["exec", "-u", "nobody-here", id, "true"], "nobody-here"),
        (&["exec", "-w", "/no/such/folder", id, "true"], "/no/such/folder"),
    ] {
        let out = cli.output(args).await?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        ensure!(!out.status.success() && said.contains("exec_failed") && said.contains(needle), "{args:?}: {out:?}");
        ensure!(out.stdout.is_empty(), "Docker's error text came as output: {out:?}");
    }
    let said = cli.fails(3, &["exec", &plimsoll_types::SandboxId::from_parts(1, 1).to_string(), "true"]).await?;
    ensure!(said.contains("sandbox_not_found"), "{said}");
    cli.run(&["rm", id]).await?;
    let said = cli.fails(4, &["exec", id, "true"]).await?;
    ensure!(said.contains("wrong_phase") && said.contains("terminated"), "{said}");
    Ok(())
}

/// Stdin, binary output, and a time limit that leaves no process behind.
pub async fn streams_and_limits(world: &mut World) -> Result<()> {
    let (cli, id) = (world.cli(), world.create(&[]).await?);
    let every_byte: Vec<u8> = (0..=255u8).cycle().take(300_000).collect();
    let out = cli.output_with_input(&["exec", "-i", &id, "cat"], &every_byte).await?;
    ensure!(
        out.status.success() && out.stdout == every_byte,
        "{} of {} bytes came back",
        out.stdout.len(),
        every_byte.len()
    );

    // A child that left its process group and its session is killed as well.
    let out = cli.output(&["exec", "--time-limit", "2s", &id, "sh", "-c", "setsid sleep 987 & sleep 986"]).await?;
    ensure!(out.status.code() == Some(137), "{out:?}");
    let left = cli.run(&["exec", &id, "sh", "-c", "ps | grep -c '[s]leep 98[67]' || true"]).await?;
    ensure!(left == "0", "{left} processes outlived their time limit");
    Ok(())
}

/// `exec -it` gives a terminal of this one's kind, passes what is typed, and ends with the command's own code.
pub async fn terminal(world: &mut World) -> Result<()> {
    let id = world.create(&[]).await?;
    let out =
        world.cli().output_at_terminal(&["exec", "-it", &id, "sh"], b"tty; echo $TERM-$((6 * 7)); exit 5\n").await?;
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(shown.contains("/dev/pts/") && shown.contains("xterm-42"), "{shown:?}");
    ensure!(out.status.code() == Some(5), "{out:?}");
    // At a terminal an unknown host key is asked about, and anything but yes leaves the host out.
    let host = world.lab.host(0);
    let out = world.cli().output_at_terminal(&["host", "check", "asked", &host.ssh_url()], b"no\n").await?;
    let shown = String::from_utf8_lossy(&out.stdout).into_owned();
    ensure!(shown.contains(&host.host_key().fingerprint) && shown.contains("Type yes"), "{shown:?}");
    ensure!(out.status.code() == Some(2), "{out:?}");
    let out = world.cli().output_at_terminal(&["host", "check", "asked", &host.ssh_url()], b"yes\n").await?;
    ensure!(out.status.success() && String::from_utf8_lossy(&out.stdout).contains("MaxSessions"), "{out:?}");
    Ok(())
}

/// One file both ways, byte for byte, whatever its name; nothing half written.
pub async fn files(world: &mut World) -> Result<()> {
    let (cli, id) = (world.cli(), world.create(&[]).await?);
    let folder = world.lab.folder().join("files");
    std::fs::create_dir_all(&folder)?;
    let (here, back) = (folder.join("here"), folder.join("back"));
    let content: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    std::fs::write(&here, &content)?;
    for path in [
        "/workspace/new/deep/file",
        "/workspace/with blank",
        "/workspace/-dash",
        "/workspace/line\nbreak",
        "/workspace/$(id)",
    ] {
        let there = format!("{id}:{path}");
        cli.run(&["cp", here.to_str().context("a path")?, &there]).await?;
        cli.run(&["cp", &there, back.to_str().context("a path")?]).await?;
        ensure!(std::fs::read(&back)? == content, "{path:?} came back changed");
    }
    let said = cli.fails(3, &["cp", &format!("{id}:/workspace/nothing"), back.to_str().context("a path")?]).await?;
    ensure!(said.contains("file_not_found"), "{said}");
    let said = cli.fails(1, &["cp", here.to_str().context("a path")?, &format!("{id}:/proc/nothing/here")]).await?;
    ensure!(said.contains("file_error"), "{said}");
    ensure!(std::fs::read(&back)? == content, "a failed copy changed the target");
    // What is written belongs to the sandbox's user.
    let owner = cli.run(&["exec", &id, "stat", "-c", "%u:%g", "/workspace/new/deep/file"]).await?;
    ensure!(owner == "1000:1000", "{owner}");
    Ok(())
}

/// Folders both ways, with links, modes and odd names.
pub async fn folders(world: &mut World) -> Result<()> {
    let (cli, id) = (world.cli(), world.create(&[]).await?);
    let (tree, back) = (world.lab.folder().join("tree"), world.lab.folder().join("tree-back"));
    std::fs::create_dir_all(tree.join("a/b c"))?;
    std::fs::write(tree.join("a/b c/line\nbreak"), "1")?;
    std::fs::write(tree.join("a/script"), "#!/bin/sh\necho ran\n")?;
    std::fs::set_permissions(tree.join("a/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    std::os::unix::fs::symlink("a/script", tree.join("link"))?;
    cli.run(&["cp", tree.to_str().context("a path")?, &format!("{id}:/workspace/tree")]).await?;
    ensure!(cli.run(&["exec", &id, "/workspace/tree/link"]).await? == "ran", "mode or link was lost");
    cli.run(&["cp", &format!("{id}:/workspace/tree"), back.to_str().context("a path")?]).await?;
    ensure!(std::fs::read_to_string(back.join("a/b c/line\nbreak"))? == "1", "the odd name was lost");
    ensure!(std::fs::read_link(back.join("link"))?.to_str() == Some("a/script"), "the link was lost");
    Ok(())
}

/// Single files through `plimsoll files`: written, listed, read, moved, removed; what is wrong is said.
pub async fn single_files(world: &mut World) -> Result<()> {
    let (cli, id) = (world.cli(), world.create(&[]).await?);
    let id = id.as_str();
    let every_byte: Vec<u8> = (0..=255u8).cycle().take(70_000).collect();
    let path = "/workspace/a folder/bytes";
    let out = cli.output_with_input(&["files", "write", id, path, "--mode", "750"], &every_byte).await?;
    ensure!(out.status.success(), "{out:?}");
    let out = cli.output(&["files", "cat", id, path]).await?;
    ensure!(out.status.success() && out.stdout == every_byte, "{} bytes came back", out.stdout.len());

    let seen = cli.json(&["files", "stat", id, path]).await?;
    let expected = [("kind", "file"), ("mode", "0750"), ("path", path)];
    ensure!(expected.iter().all(|(key, value)| seen[key] == **value) && seen["size"] == 70_000, "{seen}");
    let listed = cli.json(&["files", "ls", id]).await?;
    let paths = |listed: &serde_json::Value| -> Vec<String> {
        let entries = listed.as_array().into_iter().flatten();
        entries.filter_map(|entry| entry["path"].as_str().map(str::to_owned)).collect()
    };
    ensure!(paths(&listed) == ["/workspace/a folder"], "{listed}");
    let listed = cli.json(&["files", "ls", id, "/workspace", "--recursive"]).await?;
    ensure!(paths(&listed).contains(&path.to_owned()), "{listed}");
    let table = cli.run(&["files", "ls", id, "/workspace/a folder"]).await?;
    ensure!(table.contains("70000") && table.contains("0750") && table.contains(path), "{table}");

    let out = cli.output(&["files", "rm", id, "/workspace/a folder"]).await?;
    ensure!(!out.status.success(), "a folder with something in it went unasked");
    cli.run(&["files", "mv", id, path, "/workspace/moved"]).await?;
    cli.fails(3, &["files", "stat", id, path]).await?;
    ensure!(cli.run(&["exec", id, "wc", "-c", "/workspace/moved"]).await?.starts_with("70000"), "it is another file");
    cli.run(&["files", "rm", id, "/workspace/moved"]).await?;
    let said = cli.fails(3, &["files", "cat", id, "/workspace/moved"]).await?;
    ensure!(said.contains("file_not_found"), "{said}");
    let gone = cli.json(&["files", "rm", id, "/workspace/a folder", "--recursive"]).await?;
    ensure!(gone["removed"] == "/workspace/a folder", "{gone}");
    ensure!(cli.json(&["files", "ls", id]).await?.as_array().is_some_and(Vec::is_empty), "something is left");
    cli.fails(2, &["files", "write", id, "/workspace/x", "--mode", "999"]).await?;
    Ok(())
}

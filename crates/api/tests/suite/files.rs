//! Files: raw bodies that stream both ways, and what is around them.

use crate::world::{World, code};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use plimsoll_client::{ByteStream, WriteFile, wire};
use plimsoll_types::Code;

async fn whole(stream: ByteStream) -> Vec<u8> {
    stream.map_ok(|piece| piece.to_vec()).try_concat().await.expect("a body")
}

fn body(pieces: Vec<Bytes>) -> impl futures_util::Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    stream::iter(pieces).map(Ok)
}

#[tokio::test]
async fn files_go_up_and_down_whole() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let pieces: Vec<Bytes> = (0..200_u8).map(|n| Bytes::from(vec![n; 40_000])).collect();
    let options = WriteFile { mode: Some(0o600), ..Default::default() };
    world.operator.write_file(id, "/workspace/a/big & odd.bin", &options, body(pieces.clone())).await.unwrap();
    let back = whole(world.operator.read_file(id, "/workspace/a/big & odd.bin").await.unwrap()).await;
    assert!(back == pieces.concat(), "8 MB came back changed");
    let entry = world.operator.stat_file(id, "/workspace/a/big & odd.bin").await.unwrap();
    assert_eq!((entry.size, entry.mode.as_str(), entry.kind), (8_000_000, "0600", wire::EntryKind::File));
    world.operator.move_file(id, "/workspace/a/big & odd.bin", "/workspace/b").await.unwrap();
    assert_eq!(code(world.operator.read_file(id, "/workspace/a/big & odd.bin").await.map(drop)), Code::FileNotFound);
    let listed = world.operator.list_files(id, "/workspace", true).await.unwrap();
    assert!(listed.iter().any(|entry| entry.path == "/workspace/b"), "{listed:?}");
    world.operator.remove_file(id, "/workspace/b", false).await.unwrap();
    assert_eq!(code(world.operator.stat_file(id, "/workspace/b").await), Code::FileNotFound);
}

#[tokio::test]
async fn a_folder_travels_as_tar_and_as_json() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let write = async |path: &str, data: &'static [u8]| {
        world.operator.write_file(id, path, &WriteFile::default(), body(vec![Bytes::from_static(data)])).await.unwrap();
    };
    write("/workspace/d/a.txt", b"text").await;
    write("/workspace/d/sub/b.bin", &[0xff, 0x00]).await;
    let seen = |content: wire::FolderContent| {
        content.files.iter().map(|file| (file.path.clone(), file.bytes())).collect::<Vec<_>>()
    };
    let expected = vec![("a.txt".to_owned(), b"text".to_vec()), ("sub/b.bin".to_owned(), vec![0xff, 0])];
    assert_eq!(seen(world.operator.read_folder(id, "/workspace/d").await.unwrap()), expected);
    let tar = whole(world.operator.export_tar(id, "/workspace/d").await.unwrap()).await;
    world.operator.import_tar(id, "/workspace/e", body(vec![tar.into()])).await.unwrap();
    assert_eq!(seen(world.operator.read_folder(id, "/workspace/e").await.unwrap()), expected);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_the_old_content() {
    let world = World::new().await;
    let id = world.ensure("s1").await.sandbox.id;
    let first = body(vec![Bytes::from_static(b"old")]);
    world.operator.write_file(id, "/workspace/f", &WriteFile::default(), first).await.unwrap();
    let broken = stream::iter([Ok(Bytes::from(vec![1; 100_000])), Err(std::io::Error::other("unplugged"))]);
    world.operator.write_file(id, "/workspace/f", &WriteFile::default(), broken).await.expect_err("it broke off");
    assert_eq!(whole(world.operator.read_file(id, "/workspace/f").await.unwrap()).await, b"old");
}

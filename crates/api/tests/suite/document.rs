//! The OpenAPI document: committed, complete, and served as committed.

use crate::world::World;
use plimsoll_types::Code;
use std::path::Path;

fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json")
}

#[test]
fn the_committed_document_is_the_codes() {
    let now = plimsoll_api::openapi::document().to_pretty_json().unwrap() + "\n";
    let path = committed();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let then = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        then == now,
        "docs/openapi.json is not what the code says; run `UPDATE=1 cargo test -p plimsoll-api` and commit it"
    );
}

#[test]
fn every_code_is_documented_and_every_operation_can_fail() {
    let document: serde_json::Value = serde_json::to_value(plimsoll_api::openapi::document()).unwrap();
    let codes = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    for code in Code::ALL {
        assert!(codes.iter().any(|listed| listed == code.as_str()), "{code}");
        assert!(document["info"]["description"].as_str().unwrap().contains(&format!("| `{code}` |")), "{code}");
    }
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            assert!(ids.insert(id.to_owned()), "{id} twice");
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{method} {path}");
        }
    }
    for id in [
        "ensureSandbox",
        "terminateSandbox",
        "writeEnvFile",
        "checkSandboxes",
        "resolveTunnels",
        "readFolder",
        "createTerminal",
        "testServiceCommands",
        "execCommand",
        "health",
    ] {
        assert!(ids.contains(id), "the platform's contract needs {id}");
    }
}

#[tokio::test]
async fn the_served_document_is_the_committed_one() {
    let world = World::new().await;
    let served: serde_json::Value = reqwest::get(world.url("/openapi.json")).await.unwrap().json().await.unwrap();
    assert_eq!(served, serde_json::to_value(plimsoll_api::openapi::document()).unwrap());
}

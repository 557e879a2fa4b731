use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::described;
use super::vocabulary::GALLERY;
use crate::{Download, MediaType};

fn document() -> Value {
    rawdrive_http_api::document(&[described()], "https://photos.example.org")
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"]
        .as_str()
        .and_then(|target| target.strip_prefix('#'))
    {
        Some(pointer) => document.pointer(pointer).unwrap(),
        None => value,
    }
}

fn of<'a>(document: &'a Value, method: &str, path: &str, status: &str) -> &'a Value {
    resolve(
        document,
        &document["paths"][path][method]["responses"][status],
    )
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let made = rawdrive_http_api::document(&[described()], "http://127.0.0.1:8080");
    for (key, value) in made["paths"].as_object().unwrap() {
        assert_eq!(
            &committed["paths"][key], value,
            "{key}: see clients/README.md"
        );
    }
    assert!(
        committed == made,
        "docs/openapi.json is not the document: rawdrive openapi > docs/openapi.json"
    );
}

#[test]
fn bytes_and_versions_are_described_by_their_headers() {
    let document = document();
    // A version that is told is one that can be asked about, and need not be shown to who changes it.
    let shown = of(&document, "get", "/v1/galleries/{id}", "304");
    assert!(shown["headers"]["ETag"].is_object());
    let changed = of(&document, "patch", "/v1/galleries/{id}", "204");
    assert!(changed["headers"]["Preference-Applied"].is_object());
    let shown = of(&document, "get", "/v1/libraries/{id}", "304");
    assert!(shown["headers"]["ETag"].is_object());
    let part = of(&document, "get", "/v1/photos/{id}/content", "206");
    assert!(part["headers"]["Content-Range"].is_object());
    assert!(part["content"]["image/*"].is_object());
}

#[test]
fn an_operation_asks_for_the_scope_of_what_it_is_about() {
    let document = document();
    let scopes =
        |method: &str, path: &str| document["paths"][path][method]["security"][0]["bearer"].clone();
    let upload = scopes("post", "/v1/galleries/{id}/photos");
    assert_eq!(upload, json!(["photos:write"]));
    assert_eq!(scopes("get", "/v1/libraries"), json!(["galleries:read"]));
    assert_eq!(
        document["paths"]["/v1/shared/{token}"]["get"]["security"],
        json!([])
    );
}

#[test]
fn an_upload_is_described_by_each_type_that_a_gallery_takes_and_as_a_form() {
    let document = document();
    let content = &document["paths"]["/v1/galleries/{id}/photos"]["post"]["requestBody"]["content"];
    for media in MediaType::ALL {
        let schema = &content[media.as_str()]["schema"];
        assert_eq!(
            schema,
            &json!({ "type": "string", "format": "binary" }),
            "{media:?}"
        );
    }
    let form = resolve(&document, &content["multipart/form-data"]["schema"]);
    assert_eq!(form["properties"]["file"]["format"], "binary");
    assert_eq!(content.as_object().unwrap().len(), MediaType::ALL.len() + 1);
}

#[test]
fn what_is_created_at_an_address_of_its_own_is_said_to_be_there() {
    let document = document();
    let addresses: Vec<(&str, &str)> = GALLERY
        .resources
        .iter()
        .filter_map(|one| Some((one.prefix, one.address?)))
        .collect();
    let mut addressed = BTreeSet::new();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values());
    for operation in operations {
        let created = &operation["responses"]["201"];
        if !created["headers"]["Location"].is_null() {
            let name = created["content"]["application/json"]["schema"]["$ref"]
                .as_str()
                .and_then(|target| target.strip_prefix("#/components/schemas/"));
            let id = &document["components"]["schemas"][name.unwrap()]["properties"]["id"];
            let prefix = id["examples"][0]
                .as_str()
                .unwrap()
                .split('_')
                .next()
                .unwrap();
            // What the core has an address for is the core's to test.
            let Some((_, list)) = addresses.iter().find(|(kind, _)| *kind == prefix) else {
                continue;
            };
            assert!(
                document["paths"][format!("{list}/{{id}}")]["get"].is_object(),
                "{list}"
            );
            addressed.insert(prefix.to_owned());
        }
    }
    let known: BTreeSet<_> = addresses
        .iter()
        .map(|(kind, _)| (*kind).to_owned())
        .collect();
    assert_eq!(addressed, known);
}

#[test]
fn the_words_are_the_domains() {
    let downloads = [Download::None, Download::Web, Download::Original].map(Download::as_str);
    assert_eq!(
        document()["components"]["schemas"]["Download"]["enum"],
        json!(downloads)
    );
}

//! What the README shows is what the tool says.

use std::process::Command;

fn ask(arguments: &[&str]) -> (Option<i32>, String, String) {
    let plans = concat!(env!("CARGO_MANIFEST_DIR"), "/plans.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_example-quota-cli"))
        .arg(plans)
        .args(arguments)
        .output()
        .expect("the tool starts");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_readme_shows_what_it_says() {
    let (status, said, _) = ask(&["free", "contracts=2+1", "signatures=9+4"]);
    assert_eq!(status, Some(1));
    let readme = include_str!("../README.md");
    for line in said.lines() {
        assert!(readme.contains(line), "{line}");
    }
    assert_eq!(said.lines().count(), 2);
}

#[test]
fn a_mistake_is_named_with_what_would_be_right() {
    for (arguments, expected) in [
        (&["gold", "contracts=1+1"][..], "there is no plan `gold`"),
        (&["free", "contract=1+1"], "contract"),
        (&["free", "contracts=1"], "expected metric=used+requested"),
    ] {
        let (status, _, said) = ask(arguments);
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

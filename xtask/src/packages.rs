//! Whether every crate of the product could be published, although none is: `publish = false` is the gate, and stays.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::{Failure, cargo, run, workspace_root};

const GATE: &str = "publish = false";

/// Packages a copy of the workspace whose gate is open. Nothing is compiled and nothing is sent; what cargo refuses is
/// metadata that is missing, a dependency without a version, a circle of crates.
pub(crate) fn check() -> Result<(), Failure> {
    let copy = std::env::temp_dir().join(format!("rawdrive-packages-{}", std::process::id()));
    let checked = package(&copy);
    let _ = fs::remove_dir_all(&copy);
    checked
}

fn package(copy: &Path) -> Result<(), Failure> {
    let root = workspace_root();
    let failed = |what: &str, error: std::io::Error| Failure::new(format!("{what}: {error}"));
    let mut list = Command::new("git");
    list.current_dir(&root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listed = list
        .output()
        .map_err(|e| failed("failed to start `git ls-files`", e))?;
    if !listed.status.success() {
        return Err(Failure::new("`git ls-files` failed".to_owned()));
    }
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut kept_back = Vec::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root.join(name), copy.join(name));
        // One that is deleted and not committed is listed still.
        if !from.is_file() {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(|e| failed("failed to make a directory", e))?;
        }
        fs::copy(&from, &to).map_err(|e| failed(name, e))?;
        if name.ends_with("Cargo.toml") {
            let manifest = fs::read_to_string(&from).map_err(|e| failed(name, e))?;
            let gated = manifest.lines().any(|line| line == GATE);
            if name == "Cargo.toml" {
                if !gated {
                    return Err(Failure::new(format!("Cargo.toml has no line `{GATE}`")));
                }
                let open = manifest.replacen(GATE, "publish = true", 1);
                fs::write(&to, open).map_err(|e| failed(name, e))?;
            } else if gated {
                // Tests, tools and examples.
                let package = manifest
                    .lines()
                    .find_map(|line| line.strip_prefix("name = "));
                kept_back.extend(package.map(|name| name.trim_matches('"').to_owned()));
            }
        }
    }
    let mut package = cargo();
    package
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .args([
            "package",
            "--quiet",
            "--workspace",
            "--no-verify",
            "--allow-dirty",
        ]);
    for name in &kept_back {
        package.args(["--exclude", name]);
    }
    run(&mut package)
}

//! Everything that a change must pass.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::process::{Failure, cargo, run, step, workspace_root};

/// Pinned, so that a new release of the tool cannot turn an old commit red.
const CARGO_DENY: &str = "0.20.2";

/// Cheapest first. Stops at the first step that fails.
pub(crate) fn run_all() -> Result<(), Failure> {
    step("format", || run(cargo().args(["fmt", "--all", "--check"])))?;
    step("clippy", || {
        run(cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("dependency rules", || {
        let mut deny = Command::new(cargo_deny()?);
        deny.current_dir(workspace_root());
        // A wrapper that nobody uses yet is permission, not an error. Advisories need a database from the
        // network and are checked apart.
        deny.args([
            "check",
            "--allow",
            "unused-wrapper",
            "bans",
            "licenses",
            "sources",
        ]);
        run(&mut deny)
    })?;
    step("documentation", || {
        run(cargo()
            .env("RUSTDOCFLAGS", "-D warnings")
            .args(["doc", "--no-deps", "--workspace"]))
    })?;
    step("packages", crate::packages::check)?;
    crate::test_run::run_tests(&[])?;
    crate::judge::run_all()?;
    crate::clients::run_all()?;
    crate::clients::fuzz(crate::clients::FUZZ_CASES)
}

/// The pinned cargo-deny, installed beside the workspace if it is not there.
fn cargo_deny() -> Result<PathBuf, Failure> {
    let tools = workspace_root().join(".cache/tools");
    let binary = tools.join("bin/cargo-deny");
    let installed = Command::new(&binary)
        .arg("--version")
        .stderr(Stdio::null())
        .output();
    let is_pinned = installed.is_ok_and(|out| {
        String::from_utf8_lossy(&out.stdout).trim() == format!("cargo-deny {CARGO_DENY}")
    });
    if !is_pinned {
        let mut install = cargo();
        // Unoptimised it is built in half the time, and it runs once.
        install.args(["install", "--locked", "--force", "--debug"]);
        install.args(["--version", CARGO_DENY]);
        run(install.arg("--root").arg(&tools).arg("cargo-deny"))?;
    }
    Ok(binary)
}

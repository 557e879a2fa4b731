//! The binary as cargo builds it: what it says of itself. That it is here also has `cargo test` build the binary,
//! which the black-box tests start.

use std::process::Command;

#[test]
fn it_says_its_version_and_refuses_what_it_does_not_know() {
    let run = |argument: &str| {
        Command::new(env!("CARGO_BIN_EXE_rawdrive"))
            .arg(argument)
            .output()
            .expect("the binary starts")
    };
    let version = run("--version");
    assert!(version.status.success());
    let expected = format!("rawdrive {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);
    let unknown = run("sing");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("sing"));
}

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

/// Every page of help, by the commands that the pages themselves list.
#[test]
fn no_page_of_help_shows_code_marks() {
    let mut open = vec![Vec::<String>::new()];
    let mut pages = 0;
    while let Some(path) = open.pop() {
        for ask in ["-h", "--help"] {
            let output = Command::new(env!("CARGO_BIN_EXE_rawdrive"))
                .args(&path)
                .arg(ask)
                .output()
                .expect("the binary starts");
            assert!(output.status.success(), "{path:?} {ask}: {output:?}");
            let page = String::from_utf8(output.stdout).expect("text");
            assert!(!page.contains('`'), "{path:?} {ask}: {page}");
            assert!(page.contains("Usage: rawdrive"), "{path:?} {ask}: {page}");
            pages += 1;
            if ask == "-h" {
                let listed = page.lines().skip_while(|line| *line != "Commands:").skip(1);
                for line in listed.take_while(|line| !line.is_empty()) {
                    let name = line
                        .split_whitespace()
                        .next()
                        .expect("a command has a name");
                    if name != "help" {
                        open.push([path.as_slice(), &[name.to_owned()]].concat());
                    }
                }
            }
        }
    }
    assert!(pages > 30, "only {pages} pages were found");
}

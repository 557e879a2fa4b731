//! What each published crate shows is what `public/<package>.txt` says: nobody changes it without seeing that they do.
//! `cargo xtask surface` writes the texts anew, and the difference is reviewed like any other.
//!
//! It is read from the sources, since rustdoc tells it to nightly compilers alone: what can be reached from the root by
//! `pub mod` and `pub use`, signatures without bodies, public fields, and which traits are implemented. Limits: a bound that
//! follows from another crate's types is not seen, and what a macro makes is shown by the macro's call and by the
//! public lines of its rules.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

mod items;
mod shown;
mod sources;
mod text;

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use cargo_metadata::MetadataCommand;

use crate::shown::surface;

/// Set by `cargo xtask surface`.
const ACCEPT: &str = "RAWDRIVE_ACCEPT_SURFACE";

#[test]
fn what_a_crate_shows_is_what_was_reviewed() {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut metadata = MetadataCommand::new();
    let metadata = metadata.current_dir(xtask).no_deps().exec().unwrap();
    let (mut wrong, mut kept) = (Vec::new(), BTreeSet::new());
    for package in metadata.workspace_packages() {
        let is_kept_back = package.publish.as_ref().is_some_and(Vec::is_empty);
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let library = package.targets.iter().find(|target| target.is_lib());
        // The gate of the workspace is shut; what it would let through has no gate of its own.
        let (true, false, Some(library)) = (
            is_kept_back,
            manifest.contains("\npublish = false"),
            library,
        ) else {
            continue;
        };
        let shown = surface(&package.name, library.src_path.as_std_path());
        let file = xtask.join(format!("tests/public/{}.txt", package.name));
        kept.insert(file.clone());
        if env::var_os(ACCEPT).is_some() {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &shown).unwrap();
        }
        let reviewed = fs::read_to_string(&file).unwrap_or_default();
        if reviewed != shown {
            wrong.push(format!(
                "{}:\n{}",
                package.name,
                difference(&reviewed, &shown)
            ));
        }
    }
    assert!(kept.len() > 10, "the published crates are found");
    for entry in fs::read_dir(xtask.join("tests/public")).unwrap() {
        let path = entry.unwrap().path();
        if !kept.contains(&path) {
            wrong.push(format!(
                "{}: there is no such published crate",
                path.display()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "what is shown has changed; `cargo xtask surface` accepts it:\n{}",
        wrong.join("\n")
    );
}

/// The lines that are gone and those that are new.
fn difference(before: &str, after: &str) -> String {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) =
        (before.lines().collect(), after.lines().collect());
    let gone = before.lines().filter(|line| !new.contains(line));
    let added = after.lines().filter(|line| !old.contains(line));
    let lines = gone
        .map(|line| format!("- {line}"))
        .chain(added.map(|line| format!("+ {line}")));
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        "the order of lines".to_owned()
    } else {
        lines.join("\n")
    }
}

fn shown_of(files: &[(&str, &str)]) -> String {
    let folder = env::temp_dir().join(format!(
        "rawdrive-surface-{}-{:p}",
        std::process::id(),
        files
    ));
    for (name, text) in files {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let shown = surface("a-crate", &folder.join("lib.rs"));
    fs::remove_dir_all(folder).unwrap();
    shown
}

#[test]
fn what_is_reached_from_the_root_is_shown_and_nothing_else() {
    let shown = shown_of(&[
        (
            "lib.rs",
            "mod a; pub mod b; pub use a::{Kept, made}; pub use other::Theirs; mod hidden; #[cfg(test)] mod tests;
             made_by! { Ours }
             macro_rules! made_by { ($name:ident) => { pub struct $name(u8); impl $name { pub fn new() -> Self { todo() } } } }",
        ),
        (
            "a.rs",
            "/// Words.
             #[derive(Clone, Debug)] pub struct Kept { pub size: u64, secret: u8 }
             impl Kept { pub fn new(size: u64) -> Self { body() } pub(crate) fn not(&self) {} fn nor(&self) {} }
             impl std::fmt::Display for Kept { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { x() } }
             pub async fn made<T: Send>(of: &mut impl Sized, with: &'static str) -> Result<Vec<T>, ()> { body() }
             pub fn unreached() {}",
        ),
        (
            "b/mod.rs",
            "#[cfg(feature = \"x\")] pub trait Port: Send { const N: u8; type Item; fn ask(&self) -> bool; fn given(&self) { x() } }
             pub enum State { Open, Shut { at: u64 } } pub const MOST: usize = 3; const FEW: usize = 1;",
        ),
        ("hidden.rs", "pub struct Hidden;"),
    ]);
    let expected = "\
# What a-crate shows. `cargo xtask surface` writes it.

async fn made<T: Send>(of: &mut impl Sized, with: &'static str) -> Result<Vec<T>, ()>

b:: const MOST: usize = 3

b:: enum State { Open, Shut { at: u64 } }

b:: trait Port: Send  [cfg(feature = \"x\")]
    const N: u8
    fn ask(&self) -> bool
    fn given(&self)  [provided]
    type Item

made_by!(Ours)
    fn new() -> Self
    struct $name(u8)

struct Kept { size: u64, .. }  derive(Clone, Debug)
    fn new(size: u64) -> Self
    impl std::fmt::Display for Kept

use other::Theirs
";
    assert_eq!(shown, expected);
}

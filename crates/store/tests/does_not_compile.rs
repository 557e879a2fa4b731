//! Ways to reach another tenant's rows that must not compile, and their legitimate twins, which must.
//!
//! In a file of `does_not_compile/`, `//~ E0308` says which errors the compiler must find in this line, by their codes (by
//! the message, for an error that has none), and it must find no other. `//~` alone marks a line that is not looked at,
//! because an earlier error ends the compiler's work. The file's twin is the same text without the marked lines, and with
//! what follows `//+`: it must compile, so that a refusal is one of the marked lines and not of a name that is gone.
//!
//! The compiler is called on the libraries that this test was built with, to check alone: building all of them a second
//! time, as a cargo within cargo does, takes minutes. Doc tests with `compile_fail,E0308` would not do: the code is looked
//! at by nightly compilers only.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test are test code, which clippy knows of functions marked as tests alone"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::SystemTime;
use std::{env, fs, thread};

use serde_json::Value;
use tempfile::TempDir;

/// The libraries that the cases name; `target` may hold several builds of each.
const NAMED: [&str; 4] = [
    "rawdrive_gallery",
    "rawdrive_store",
    "rawdrive_plans",
    "rawdrive_tenancy_core",
];

/// How many choices of builds are tried before the search is given up.
const MOST_CHOICES: usize = 24;

/// The errors of each line; line 0 has those that are in no line of the file.
type Errors = BTreeMap<usize, BTreeSet<String>>;

#[test]
fn only_the_scopes_own_rows_can_be_reached() {
    let libraries = &*LIBRARIES;
    let cases = sources("does_not_compile");
    assert!(cases.len() >= 18, "the cases are found");
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = errors(case, libraries);
            let expected = marks(&fs::read_to_string(case).unwrap());
            if found != expected {
                let text = format!("{}: {found:?} instead of {expected:?}", case.display());
                wrong.lock().unwrap().push(text);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_compiles_is_no_refusal() {
    let folder = TempDir::new().unwrap();
    let harmless = folder.path().join("harmless.rs");
    let text = "fn f(store: &rawdrive_store::Store) { let _ = store; } //~ E0308\n";
    fs::write(&harmless, text).unwrap();
    assert_eq!(errors(&harmless, &LIBRARIES), Errors::new());
    let refused: Errors = [(1, ["E0308".to_owned()].into())].into();
    assert_eq!(marks(text), refused);
}

/// One build of each library in [`NAMED`] with which every twin and every file of `compiles/` does.
static LIBRARIES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let mut legitimate = String::new();
    let twins = sources("does_not_compile");
    for path in twins.iter().chain(&sources("compiles")) {
        let name = path.file_stem().unwrap().to_string_lossy();
        let text = twin(&fs::read_to_string(path).unwrap());
        legitimate.push_str(&format!("mod {name} {{\n{text}\n}}\n"));
    }
    let folder = TempDir::new().unwrap();
    let source = folder.path().join("legitimate.rs");
    fs::write(&source, legitimate).unwrap();

    let builds: Vec<_> = NAMED.into_iter().map(builds).collect();
    // Libraries of two builds do not fit each other: the choice with the fewest errors is the one to read.
    let mut fewest: Option<Errors> = None;
    for choice in choices(&builds).into_iter().take(MOST_CHOICES) {
        let errors = errors(&source, &choice);
        if errors.is_empty() {
            return choice;
        }
        if fewest
            .as_ref()
            .is_none_or(|found| errors.len() < found.len())
        {
            fewest = Some(errors);
        }
    }
    let text = fs::read_to_string(&source).unwrap();
    let errors = fewest.expect("each library has been built");
    let lines = errors.iter().map(|(line, what)| {
        let at = text.lines().nth(line.wrapping_sub(1)).unwrap_or_default();
        format!("{what:?} {}", at.trim())
    });
    panic!(
        "what is legitimate does not compile: {}",
        lines.collect::<Vec<_>>().join("\n")
    );
});

/// The files of a folder beside this one.
fn sources(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

/// Which errors a text says that its lines have.
fn marks(text: &str) -> Errors {
    let lines = text.lines().enumerate();
    let marked = lines.filter_map(|(n, line)| Some((n + 1, line.split_once("//~")?.1)));
    let codes = |mark: &str| {
        mark.split(", ")
            .map(|code| code.trim().to_owned())
            .collect()
    };
    marked
        .filter(|(_, mark)| !mark.trim().is_empty())
        .map(|(n, mark)| (n, codes(mark)))
        .collect()
}

/// The text without the lines that are refused, and with those that stand for them.
fn twin(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("//~"));
    let lines = lines.map(|line| line.trim_start().strip_prefix("//+ ").unwrap_or(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Where the libraries of this build lie: this test lies among them.
fn beside_this_test() -> PathBuf {
    let this = env::current_exe().unwrap();
    this.parent().unwrap().to_path_buf()
}

/// The builds of a library, the newest first. Features of other builds by hand leave others beside ours.
fn builds(library: &str) -> Vec<PathBuf> {
    let start = format!("lib{library}-");
    let mut builds: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(beside_this_test()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&start) && name.ends_with(".rlib") {
            builds.push((entry.metadata().unwrap().modified().unwrap(), entry.path()));
        }
    }
    builds.sort();
    builds.into_iter().rev().map(|(_, path)| path).collect()
}

/// Every choice of one build of each library, that of the newest ones first.
fn choices(builds: &[Vec<PathBuf>]) -> Vec<Vec<PathBuf>> {
    let Some((first, rest)) = builds.split_first() else {
        return vec![Vec::new()];
    };
    let rest = choices(rest);
    let with = |build: &PathBuf| {
        let whole = |rest: &Vec<PathBuf>| [std::slice::from_ref(build), rest].concat();
        rest.iter().map(whole).collect::<Vec<_>>()
    };
    first.iter().flat_map(with).collect()
}

/// The errors that the compiler finds in a file.
fn errors(source: &Path, libraries: &[PathBuf]) -> Errors {
    let out = TempDir::new().unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition",
        "2024",
        "--crate-type",
        "lib",
        "--emit",
        "metadata",
        "--error-format",
        "json",
    ]);
    rustc.arg("--out-dir").arg(out.path());
    rustc
        .arg("-L")
        .arg(format!("dependency={}", beside_this_test().display()));
    for (name, library) in NAMED.iter().zip(libraries) {
        rustc
            .arg("--extern")
            .arg(format!("{name}={}", library.display()));
    }
    let output = rustc.arg(source).output().expect("the compiler starts");
    let mut errors = Errors::new();
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        let message: Value = serde_json::from_str(line).expect("a line is a message");
        let text = message["message"].as_str().unwrap();
        if message["level"] != "error" || text.starts_with("aborting due to") {
            continue;
        }
        let spans = message["spans"].as_array().unwrap();
        let primary = spans.iter().find(|span| span["is_primary"] == true);
        let own = primary.filter(|span| span["file_name"].as_str().map(Path::new) == Some(source));
        let at = own
            .and_then(|span| span["line_start"].as_u64())
            .unwrap_or_default();
        let code = message["code"]["code"].as_str();
        let at = errors.entry(usize::try_from(at).unwrap()).or_default();
        at.insert(code.unwrap_or(text).to_owned());
    }
    assert_eq!(output.status.success(), errors.is_empty(), "{errors:?}");
    errors
}

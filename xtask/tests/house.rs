//! The house stands as ARCHITECTURE.md draws it: who may import whom, who knows which technology, a code map
//! without gaps, and no manifest that names what its sources do not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

#[test]
fn the_manifests_follow_architecture_md() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text =
        fs::read_to_string(root.join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is readable");
    let house = House::parse(&text).expect("ARCHITECTURE.md has the blocks that this test reads");
    let members = workspace_members(root);
    assert!(
        members.len() > 10,
        "the metadata lists the workspace's packages"
    );

    let violations = house.violations(&members);
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn what_a_manifest_names_its_sources_use() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let unused: Vec<_> = workspace_members(root)
        .iter()
        .flat_map(|member| {
            let code = code_below(&root.join(&member.path).join("src"));
            let unused = member.imports.iter().filter(|import| !uses(&code, import));
            unused
                .map(|import| format!("{} declares {import} and does not use it", member.name))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(unused.is_empty(), "{}", unused.join("\n"));
}

/// The feature of `tenancy-core` that shows what states a right without proving it.
const ATTEST: &str = "attest";

#[test]
fn only_those_listed_state_rights() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let listed = fenced(&text, "may-attest").unwrap();
    let mut listed: Vec<_> = listed.iter().flat_map(|l| l.split_whitespace()).collect();
    listed.sort_unstable();
    let metadata = MetadataCommand::new()
        .current_dir(root)
        .no_deps()
        .exec()
        .unwrap();
    let asks = |dependency: &cargo_metadata::Dependency| {
        dependency.name == "rawdrive-tenancy-core"
            && dependency.features.iter().any(|feature| feature == ATTEST)
    };
    let packages = metadata.workspace_packages();
    let mut asking: Vec<_> = packages
        .iter()
        .filter(|package| package.dependencies.iter().any(asks))
        .map(|package| short(&package.name))
        .collect();
    asking.sort_unstable();
    assert_eq!(asking, listed);
}

#[test]
fn embedders_get_their_scopes_by_the_public_ways() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut texts = sources_below(&root.join("examples"));
    let guide = root.join("docs/GUIDE.md");
    texts.push((guide.clone(), fs::read_to_string(guide).unwrap()));
    assert!(texts.len() > 5, "the examples are found");
    for (path, text) in texts {
        for hidden in [
            "for_system(",
            "for_member(",
            "for_key(",
            "on_behalf_of(",
            "::attest(",
        ] {
            assert!(!text.contains(hidden), "{}: {hidden}", path.display());
        }
    }
}

/// Packages that know nothing of the product, whatever is built on them.
const NEUTRAL: [&str; 11] = [
    "crates/tenancy-core",
    "crates/plans",
    "crates/usage",
    "crates/identity",
    "crates/billing",
    "crates/onboarding",
    "crates/notices",
    "crates/store",
    "crates/runtime",
    "crates/http-api",
    "migrations",
];

/// Words of the product.
const PRODUCT: [&str; 5] = ["photo", "galler", "librar", "album", "branding"];

/// Lines that may hold such a word all the same, and why.
const EXCUSED: [(&str, &str); 1] = [("Python library", "a library of code, not of photos")];

#[test]
fn what_is_left_of_the_gallery_knows_no_product() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for package in NEUTRAL {
        for (path, text) in sources_below(&root.join(package).join("src")) {
            for (n, line) in text.lines().enumerate() {
                let lower = line.to_lowercase();
                let names = PRODUCT.iter().any(|word| lower.contains(word));
                let is_excused = EXCUSED.iter().any(|(words, _)| line.contains(words));
                if names && !is_excused {
                    found.push(format!("{}:{}: {}", path.display(), n + 1, line.trim()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What ARCHITECTURE.md states, in its own short names: `plans` for the package `rawdrive-plans`.
#[derive(Debug)]
struct House {
    /// The layer line, left to right.
    line: Vec<String>,
    /// Packages beside the line, and all they may import of ours.
    aside: BTreeMap<String, Vec<String>>,
    /// A dependency, and all who may name it in their manifest.
    known_by: BTreeMap<String, Vec<String>>,
    /// The folders in the code map.
    code_map: Vec<String>,
}

/// A workspace package, as its manifest declares it.
#[derive(Debug)]
struct Member {
    name: String,
    path: String,
    /// Normal and build dependencies: what the product is made of. Tests may import what they like.
    imports: Vec<String>,
}

impl House {
    fn parse(text: &str) -> Result<Self, String> {
        let line = fenced(text, "layers")?;
        let [line] = line.as_slice() else {
            return Err("the block `layers` is not one line".into());
        };
        Ok(Self {
            line: line.split('<').map(|name| name.trim().to_owned()).collect(),
            aside: lists(&fenced(text, "aside")?)?,
            known_by: lists(&fenced(text, "known-by")?)?,
            code_map: text
                .lines()
                .filter_map(|l| l.strip_prefix("| `")?.split_once("` |"))
                .map(|(path, _)| path.to_owned())
                .collect(),
        })
    }

    /// Everything in which the manifests differ from the drawing, one sentence each.
    fn violations(&self, members: &[Member]) -> Vec<String> {
        let mut found = Vec::new();
        for member in members {
            self.check_imports(member, members, &mut found);
            if !self.code_map.contains(&member.path) {
                found.push(format!("{} is not in the code map", member.path));
            }
        }
        for name in self.line.iter().chain(self.aside.keys()) {
            if !members.iter().any(|m| short(&m.name) == name) {
                found.push(format!("{name} is drawn, but there is no such package"));
            }
        }
        for name in self.aside.keys() {
            if !self.known_by.contains_key(&package(name)) {
                found.push(format!("known-by does not say who may import {name}"));
            }
        }
        for path in &self.code_map {
            if !members.iter().any(|m| &m.path == path) {
                found.push(format!(
                    "{path} is in the code map, but there is no such package"
                ));
            }
        }
        found
    }

    fn check_imports(&self, member: &Member, members: &[Member], found: &mut Vec<String>) {
        let name = short(&member.name);
        let place = self.line.iter().position(|layer| layer == name);
        let is_ours = place.is_some() || self.aside.contains_key(name);
        if !is_ours && member.name.starts_with("rawdrive") {
            found.push(format!("{} is neither in the line nor aside", member.name));
        }
        for import in &member.imports {
            if let Some(knowers) = self.known_by.get(import)
                && !knowers.iter().any(|knower| knower == name)
            {
                found.push(format!("{} must not know {import}", member.name));
            }
            if !members.iter().any(|m| &m.name == import) {
                continue;
            }
            let target = short(import);
            let allowed = if let Some(may_import) = self.aside.get(name) {
                may_import.iter().any(|layer| layer == target)
            } else if self.aside.contains_key(target) {
                // Decided by known-by above.
                true
            } else {
                // Outside the house (black-box tests, xtask) there is no left: nothing is allowed.
                let theirs = self.line.iter().position(|layer| layer == target);
                matches!((place, theirs), (Some(own), Some(other)) if other < own)
            };
            if !allowed {
                found.push(format!(
                    "{} must not import {import}: it is not to its left",
                    member.name
                ));
            }
        }
    }
}

/// The lines of the block that begins with three backticks and `name`.
fn fenced(text: &str, name: &str) -> Result<Vec<String>, String> {
    let fence = format!("```{name}");
    let mut lines = text.lines().skip_while(|line| line.trim_end() != fence);
    lines
        .next()
        .ok_or_else(|| format!("there is no block `{name}`"))?;
    let block = lines.take_while(|line| !line.starts_with("```"));
    Ok(block
        .filter(|l| !l.trim().is_empty())
        .map(str::to_owned)
        .collect())
}

/// `name: item item` for each line; nothing after the colon is an empty list.
fn lists(lines: &[String]) -> Result<BTreeMap<String, Vec<String>>, String> {
    let parse = |line: &String| {
        let (name, items) = line
            .split_once(':')
            .ok_or_else(|| format!("no colon in `{line}`"))?;
        let items = items.split_whitespace().map(str::to_owned).collect();
        Ok((name.trim().to_owned(), items))
    };
    lines.iter().map(parse).collect()
}

fn short(package: &str) -> &str {
    package.strip_prefix("rawdrive-").unwrap_or(package)
}

fn package(short: &str) -> String {
    format!("rawdrive-{short}")
}

fn workspace_members(root: &Path) -> Vec<Member> {
    // Declared dependencies are enough, and need neither network nor lock file.
    let metadata = MetadataCommand::new()
        .current_dir(root)
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    let packages = metadata.workspace_packages().into_iter();
    packages
        .map(|package| {
            let folder = package
                .manifest_path
                .parent()
                .expect("a manifest lies in a folder");
            let path = folder
                .strip_prefix(&metadata.workspace_root)
                .expect("a member lies in the workspace");
            let imports = package.dependencies.iter();
            Member {
                name: package.name.to_string(),
                path: path.to_string(),
                imports: imports
                    .filter(|dependency| dependency.kind != DependencyKind::Development)
                    .map(|dependency| dependency.name.clone())
                    .collect(),
            }
        })
        .collect()
}

/// The Rust files below a folder, and their texts.
fn sources_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).expect("a package has sources") {
        let path = entry.expect("a folder can be read").path();
        if path.is_dir() {
            sources.extend(sources_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("sources are text");
            sources.push((path, text));
        }
    }
    sources
}

/// The sources below a folder, one after the other, less the lines that are comments.
fn code_below(folder: &Path) -> String {
    let mut code = String::new();
    for (_, text) in sources_below(folder) {
        let lines = text.lines();
        let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
        code.extend(lines.flat_map(|line| [line, "\n"]));
    }
    code
}

/// Whether code names a package as a path: `package::…`, or in a `use`.
fn uses(code: &str, package: &str) -> bool {
    // The libraries whose names are not their packages'.
    let library = match package {
        "kamadak-exif" => "exif".to_owned(),
        bindings if bindings.starts_with("async-stripe") => {
            bindings["async-".len()..].replace('-', "_")
        }
        other => other.replace('-', "_"),
    };
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(&library).any(|(at, _)| {
        let rest = &code[at + library.len()..];
        !code[..at].ends_with(in_name)
            && (rest.starts_with("::")
                || (code[..at].ends_with("use ") && !rest.starts_with(in_name)))
    })
}

/// A drawing to break: two layers, one package aside, one technology.
const DRAWING: &str = "
```layers
core < store < http-api
```
```aside
migrations:
fakes: core
```
```known-by
sea-orm: store migrations
rawdrive-migrations: store
rawdrive-fakes:
```
| Path | What |
| --- | --- |
| `crates/core` | words |
| `crates/store` | rows |
| `crates/http-api` | routes |
| `crates/fakes` | memory |
| `migrations` | schema |
| `tests` | black-box |
";

fn drawn_members() -> Vec<Member> {
    let member = |name: &str, path: &str, imports: &[&str]| Member {
        name: name.to_owned(),
        path: path.to_owned(),
        imports: imports.iter().map(|&i| i.to_owned()).collect(),
    };
    vec![
        member("rawdrive-core", "crates/core", &["serde"]),
        member(
            "rawdrive-store",
            "crates/store",
            &["rawdrive-core", "rawdrive-migrations", "sea-orm"],
        ),
        member(
            "rawdrive-http-api",
            "crates/http-api",
            &["rawdrive-core", "rawdrive-store"],
        ),
        member("rawdrive-fakes", "crates/fakes", &["rawdrive-core"]),
        member("rawdrive-migrations", "migrations", &["sea-orm"]),
        member("e2e", "tests", &["serde"]),
    ]
}

/// What the test says when `package` imports `import` as well.
fn violations_with(package: &str, import: &str) -> Vec<String> {
    let mut members = drawn_members();
    let member = members
        .iter_mut()
        .find(|m| m.name == package)
        .expect("the package is drawn");
    member.imports.push(import.to_owned());
    House::parse(DRAWING)
        .expect("the drawing parses")
        .violations(&members)
}

#[test]
fn a_house_as_drawn_has_no_violations() {
    assert_eq!(
        House::parse(DRAWING).unwrap().violations(&drawn_members()),
        Vec::<String>::new()
    );
}

#[test]
fn importing_to_the_right_is_a_violation() {
    assert_eq!(
        violations_with("rawdrive-core", "rawdrive-store"),
        ["rawdrive-core must not import rawdrive-store: it is not to its left"]
    );
}

#[test]
fn an_aside_imports_only_what_its_line_says() {
    assert_eq!(
        violations_with("rawdrive-fakes", "rawdrive-store"),
        ["rawdrive-fakes must not import rawdrive-store: it is not to its left"]
    );
    assert_eq!(
        violations_with("rawdrive-migrations", "rawdrive-core"),
        ["rawdrive-migrations must not import rawdrive-core: it is not to its left"]
    );
}

#[test]
fn an_aside_is_imported_only_by_those_who_know_it() {
    assert_eq!(
        violations_with("rawdrive-http-api", "rawdrive-fakes"),
        ["rawdrive-http-api must not know rawdrive-fakes"]
    );
}

#[test]
fn a_technology_is_known_only_to_those_named() {
    assert_eq!(
        violations_with("rawdrive-http-api", "sea-orm"),
        ["rawdrive-http-api must not know sea-orm"]
    );
}

#[test]
fn black_box_tests_import_nothing_of_ours() {
    assert_eq!(
        violations_with("e2e", "rawdrive-core"),
        ["e2e must not import rawdrive-core: it is not to its left"]
    );
}

#[test]
fn a_package_that_is_not_drawn_is_a_violation() {
    let mut members = drawn_members();
    members.push(Member {
        name: "rawdrive-new".into(),
        path: "crates/new".into(),
        imports: Vec::new(),
    });
    assert_eq!(
        House::parse(DRAWING).unwrap().violations(&members),
        [
            "rawdrive-new is neither in the line nor aside",
            "crates/new is not in the code map"
        ]
    );
}

#[test]
fn a_drawn_package_that_does_not_exist_is_a_violation() {
    let mut members = drawn_members();
    members.retain(|m| m.name != "rawdrive-http-api");
    assert_eq!(
        House::parse(DRAWING).unwrap().violations(&members),
        [
            "http-api is drawn, but there is no such package",
            "crates/http-api is in the code map, but there is no such package"
        ]
    );
}

#[test]
fn a_drawing_without_its_line_is_refused() {
    assert_eq!(House::parse("").unwrap_err(), "there is no block `layers`");
}

#[test]
fn only_a_path_is_a_use() {
    for code in [
        "use serde::Serialize;",
        "#[derive(serde::Serialize)]",
        "use serde;",
    ] {
        assert!(uses(code, "serde"), "{code}");
    }
    for code in [
        "use serde_json::Value;",
        "let serde = 1;",
        "my_serde::run()",
        "#[serde(flatten)]",
    ] {
        assert!(!uses(code, "serde"), "{code}");
    }
    assert!(uses("exif::Reader", "kamadak-exif"));
}

//! No two files of a package need each other: what both need lies in a third.
//!
//! A file needs another when it names something that is defined there, by a `use` or by a path in its code. Where a name
//! is exported again (`pub use`), the file that defines it counts, not the one that passes it on. What stands under
//! `#[cfg(test)]` may look wherever it likes, and what a macro is called with is not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::MetadataCommand;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Circles that stand: the package, its files, and why. A circle may shrink, and none may grow.
const KNOWN: &[(&str, &[&str], &str)] = &[
    (
        "rawdrive-billing",
        &[
            "operation_runner.rs",
            "preview.rs",
            "subscriptions.rs",
            "sync_worker.rs",
        ],
        "the use cases' one context, `Billing`, is defined beside the worker that began with it",
    ),
    (
        "rawdrive-billing",
        &["stripe_gateway/http_client.rs", "stripe_gateway/mod.rs"],
        "the client reads its settings from the gateway that makes it",
    ),
    (
        "rawdrive-billing",
        &[
            "stripe_gateway/payments.rs",
            "stripe_gateway/subscriptions.rs",
        ],
        "buying waits for a payment, and a payment ends a purchase",
    ),
    (
        "rawdrive-stripe-double",
        &[
            "config.rs",
            "engine/changing.rs",
            "engine/cycling.rs",
            "engine/ending.rs",
            "engine/invoicing.rs",
            "engine/outcomes.rs",
            "engine/paying.rs",
            "engine/previewing.rs",
            "engine/scheduler.rs",
            "engine/scheduling.rs",
            "engine/setting_up.rs",
            "engine/subscribing.rs",
            "objects/invoices.rs",
            "objects/payments.rs",
            "persistence.rs",
            "recorder.rs",
            "routes/catalogue.rs",
            "routes/charges.rs",
            "routes/checkout.rs",
            "routes/clocks.rs",
            "routes/customers.rs",
            "routes/events.rs",
            "routes/intents.rs",
            "routes/invoice_items.rs",
            "routes/invoices.rs",
            "routes/mod.rs",
            "routes/payment_methods.rs",
            "routes/portal.rs",
            "routes/previews.rs",
            "routes/schedules.rs",
            "routes/subscription_items.rs",
            "routes/subscription_params.rs",
            "routes/subscriptions.rs",
            "service.rs",
            "shared.rs",
            "state.rs",
            "webhooks.rs",
            "wire/expand.rs",
        ],
        "what Stripe does to one object it does to all: the engine's verbs call each other as theirs do",
    ),
    (
        "rawdrive-stripe-double",
        &["control.rs", "server.rs", "test_handle.rs"],
        "the handle of tests starts the server that answers it",
    ),
    (
        "rawdrive-stripe-double",
        &[
            "pages/checkout.rs",
            "pages/invoice.rs",
            "pages/mod.rs",
            "pages/portal.rs",
            "pages/secure.rs",
        ],
        "the frame of all pages is defined in the module above them",
    ),
    (
        "rawdrive-gallery",
        &["analysis/measure.rs", "analysis/phash.rs"],
        "to be mended",
    ),
    (
        "rawdrive-gallery",
        &["ports.rs", "upload_admission.rs"],
        "to be mended",
    ),
    (
        "rawdrive-gallery",
        &[
            "image_probe/blocks.rs",
            "image_probe/exif.rs",
            "image_probe/heif.rs",
            "image_probe/jpeg.rs",
            "image_probe/mod.rs",
            "image_probe/png.rs",
            "image_probe/webp.rs",
        ],
        "the probe of each format answers with the module's own types",
    ),
    (
        "rawdrive-migrations",
        &["declaration.rs", "deploy.rs", "extension.rs"],
        "an extension is checked as declared, and the core is declared as one",
    ),
    (
        "rawdrive-http-api",
        &[
            "app.rs",
            "auth.rs",
            "client_address.rs",
            "idempotent_write.rs",
            "ingest_queue.rs",
            "key_uses.rs",
        ],
        "what the application holds is defined beside the extractors that take it from there",
    ),
    (
        "rawdrive-http-api",
        &[
            "openapi/mod.rs",
            "openapi/operations.rs",
            "openapi/problems.rs",
            "openapi/schemas.rs",
            "openapi/scopes.rs",
        ],
        "to be mended",
    ),
    (
        "rawdrive",
        &["commands/demo.rs", "commands/demo/tour.rs"],
        "to be mended",
    ),
    (
        "rawdrive",
        &[
            "config.rs",
            "config/keys.rs",
            "config/values.rs",
            "telemetry.rs",
        ],
        "to be mended",
    ),
    (
        "e2e",
        &["api.rs", "server.rs"],
        "a server hands out clients of itself",
    ),
    (
        "rawdrive-gallery",
        &["analysis/decode.rs", "analysis/jpeg.rs"],
        "how large an image is kept is defined beside the decoder",
    ),
    (
        "rawdrive",
        &[
            "commands/blobs.rs",
            "commands/doctor.rs",
            "commands/doctor/bytes.rs",
        ],
        "what doctor finds missing is what the command of blobs looks for",
    ),
];

#[test]
fn no_two_files_of_a_package_need_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let metadata = MetadataCommand::new()
        .current_dir(root)
        .no_deps()
        .exec()
        .unwrap();
    let mut found = Vec::new();
    for package in metadata.workspace_packages() {
        let src = package.manifest_path.parent().unwrap().join("src");
        for circle in circles(&Sources::read(src.as_std_path()).edges()) {
            let is_known = KNOWN.iter().any(|(name, files, _)| {
                *name == package.name.as_str() && circle.iter().all(|f| files.contains(&f.as_str()))
            });
            if !is_known {
                found.push(format!("{}: {}", package.name, circle.join(", ")));
            }
        }
    }
    assert!(
        found.is_empty(),
        "these files need each other:\n{}",
        found.join("\n")
    );
}

/// A module's path from the crate's root: empty for the root itself.
type ModulePath = Vec<String>;

#[derive(Debug, Default)]
struct Module {
    file: String,
    /// What is defined in it.
    defines: BTreeSet<String>,
    /// What it exports again, and from where.
    exports: Vec<(String, ModulePath)>,
    /// From where it exports everything again.
    exports_all: Vec<ModulePath>,
    /// The paths that its code names.
    names: Vec<ModulePath>,
}

/// The files of a package, by module.
#[derive(Debug, Default)]
struct Sources(BTreeMap<ModulePath, Module>);

impl Sources {
    fn read(folder: &Path) -> Self {
        let mut sources = Self::default();
        let mut files = Vec::new();
        list(folder, folder, &mut files);
        for file in files {
            let text = fs::read_to_string(folder.join(&file)).expect("sources are text");
            sources.add(&file, &text);
        }
        sources
    }

    /// Adds a file, by its path below `src`.
    fn add(&mut self, file: &str, text: &str) {
        let mut path: ModulePath = file
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_owned)
            .collect();
        if path.last().is_some_and(|last| last == "mod") || file == "lib.rs" || file == "main.rs" {
            path.pop();
        }
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        if is_for_tests(&parsed.attrs) {
            return;
        }
        let mut reader = Reader {
            sources: self,
            file: file.to_owned(),
            module: path,
        };
        reader.items(&parsed.items);
    }

    fn module(&mut self, path: &ModulePath, file: &str) -> &mut Module {
        let module = self.0.entry(path.clone()).or_default();
        if module.file.is_empty() {
            file.clone_into(&mut module.file);
        }
        module
    }

    /// The module that defines what a path from the root names.
    fn defining(&self, path: &[String], depth: usize) -> Option<&ModulePath> {
        let mut at = ModulePath::new();
        for (n, segment) in path.iter().enumerate() {
            at.push(segment.clone());
            if self.0.contains_key(&at) {
                continue;
            }
            at.pop();
            let (here, _) = self.0.get_key_value(&at)?;
            let module = &self.0[&at];
            if module.defines.contains(segment) || depth == 0 {
                return Some(here);
            }
            if let Some((_, from)) = module.exports.iter().find(|(name, _)| name == segment) {
                let onward: Vec<_> = from.iter().chain(&path[n + 1..]).cloned().collect();
                return self.defining(&onward, depth - 1);
            }
            let through = module.exports_all.iter().find_map(|from| {
                let onward: Vec<_> = from.iter().chain(&path[n..]).cloned().collect();
                let found = self.defining(&onward, depth - 1)?;
                self.0[found].defines.contains(segment).then_some(found)
            });
            return Some(through.unwrap_or(here));
        }
        self.0.get_key_value(&at).map(|(here, _)| here)
    }

    /// Which file needs which.
    fn edges(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
        for module in self.0.values() {
            let needed = edges.entry(module.file.clone()).or_default();
            for name in &module.names {
                if let Some(other) = self.defining(name, 8) {
                    let other = &self.0[other].file;
                    if *other != module.file {
                        needed.insert(other.clone());
                    }
                }
            }
        }
        edges
    }
}

fn list(root: &Path, folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            list(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root).expect("it lies below");
            files.push(below.to_str().expect("UTF-8").replace('\\', "/"));
        }
    }
    files.sort();
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

struct Reader<'a> {
    sources: &'a mut Sources,
    file: String,
    module: ModulePath,
}

impl Reader<'_> {
    fn here(&mut self) -> &mut Module {
        self.sources.module(&self.module, &self.file)
    }

    fn items(&mut self, items: &[Item]) {
        let names = items.iter().filter_map(name_of);
        self.here().defines.extend(names);
        for item in items {
            self.visit_item(item);
        }
    }

    /// The path from the root, of one that begins with `crate`, `self`, `super` or a module below this one; nothing of
    /// any other.
    fn below_root(&self, path: &[String]) -> Option<ModulePath> {
        let first = path.first()?;
        let mut at = self.module.clone();
        let mut rest = path;
        match first.as_str() {
            "crate" => {
                at.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            _ => {
                at.push(first.clone());
                let is_below = path.len() > 1 && self.is_declared_below(first);
                at.pop();
                if !is_below {
                    return None;
                }
            }
        }
        at.extend(rest.iter().cloned());
        Some(at)
    }

    /// Whether a module of this name is declared in this one.
    fn is_declared_below(&self, name: &str) -> bool {
        let module = self.sources.0.get(&self.module);
        module.is_some_and(|module| module.defines.contains(&format!("mod {name}")))
    }

    fn name(&mut self, path: &[String]) {
        if let Some(path) = self.below_root(path) {
            self.here().names.push(path);
        }
    }
}

/// What an item defines; a module is told from what else may have its name.
fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Mod(item) => return Some(format!("mod {}", item.ident)),
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(ident.to_string())
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            self.items(items);
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_private = matches!(item.vis, Visibility::Inherited);
        for (path, name) in leaves(&item.tree) {
            let Some(from) = self.below_root(&path) else {
                continue;
            };
            match (is_private, name) {
                // Whoever takes everything needs the module itself.
                (true, _) => self.here().names.push(from),
                (false, Some(name)) => self.here().exports.push((name, from)),
                (false, None) => self.here().exports_all.push(from),
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if segments.len() > 1 {
            self.name(&segments);
        }
        visit::visit_path(self, path);
    }
}

/// Every path that a `use` names, and what it is called here; no name for all that is there.
fn leaves(tree: &UseTree) -> Vec<(ModulePath, Option<String>)> {
    match tree {
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            let mut leaves = leaves(&path.tree);
            for (below, _) in &mut leaves {
                below.insert(0, first.clone());
            }
            leaves
        }
        UseTree::Name(name) if name.ident == "self" => vec![(Vec::new(), Some(String::new()))],
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], Some(name.ident.to_string()))],
        UseTree::Rename(rename) => vec![(
            vec![rename.ident.to_string()],
            Some(rename.rename.to_string()),
        )],
        UseTree::Glob(_) => vec![(Vec::new(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// The sets of files that reach each other, each sorted.
fn circles(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            for other in edges.get(file).into_iter().flatten() {
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = edges.keys().map(|file| (file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reached) in &reach {
        let circle: Vec<_> = reached
            .iter()
            .filter(|other| reach.get(*other).is_some_and(|back| back.contains(file)))
            .map(|other| (*other).clone())
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let mut sources = Sources::default();
    for (file, text) in files {
        sources.add(file, text);
    }
    circles(&sources.edges())
}

#[test]
fn two_files_that_name_each_other_are_a_circle() {
    for (a, b) in [
        ("use crate::b::B;", "use crate::a::A;"),
        ("use super::b::B;", "fn f() -> crate::a::A { todo() }"),
        ("use crate::b;", "use crate::a::{A, x};"),
        ("use crate::b::*;", "use crate::{a::A};"),
        // By a name that the root exports again.
        ("use crate::B;", "use crate::A;"),
    ] {
        let (a, b) = (format!("{a} pub struct A;"), format!("{b} pub struct B;"));
        let root = "mod a; mod b; pub use a::A; pub use b::B;";
        let found = circles_of(&[("lib.rs", root), ("a.rs", &a), ("b.rs", &b)]);
        assert_eq!(found, [["a.rs", "b.rs"]], "{a} {b}");
    }
}

#[test]
fn a_file_and_one_below_it_are_a_circle_as_well() {
    let root = ("lib.rs", "mod a;");
    let below = ("a/b.rs", "use super::A; pub struct B;");
    for a in [
        "mod b; use b::B; struct A;",
        "mod b; use self::b::B; struct A;",
        "mod b; struct A(b::B);",
    ] {
        assert_eq!(
            circles_of(&[root, ("a.rs", a), below]),
            [["a.rs", "a/b.rs"]]
        );
    }
    // One that only passes on what is below needs nothing of it.
    let passes_on = ("a.rs", "mod b; pub use b::B; struct A;");
    assert!(circles_of(&[root, passes_on, below]).is_empty());
}

#[test]
fn three_in_a_row_are_a_circle_only_when_they_close() {
    let files = |last: &'static str| {
        [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", last),
        ]
    };
    assert!(circles_of(&files("pub struct C;")).is_empty());
    let closed = circles_of(&files("use crate::a::A; pub struct C;"));
    assert_eq!(closed, [["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn tests_may_look_anywhere() {
    let a = "use crate::b::B; pub struct A;";
    for b in [
        "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }",
        "pub struct B; #[cfg(test)] use crate::a::A;",
        "pub struct B; mod inner { use super::B; }",
    ] {
        let found = circles_of(&[("lib.rs", "mod a; mod b;"), ("a.rs", a), ("b.rs", b)]);
        assert!(found.is_empty(), "{b}: {found:?}");
    }
}

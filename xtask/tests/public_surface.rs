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

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{env, fs};

use cargo_metadata::MetadataCommand;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, UseTree, Visibility};

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

/// Where a module stands below the root.
type ModulePath = Vec<String>;

/// A crate's sources: the items of each module that is not for tests.
#[derive(Default)]
struct Crate(BTreeMap<ModulePath, Vec<Item>>);

impl Crate {
    /// Reads a file, and the files of its modules.
    fn read(&mut self, file: &Path, at: &[String]) {
        let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let folder = match file.file_stem().and_then(|stem| stem.to_str()) {
            Some("lib" | "mod") => file.parent().unwrap().to_path_buf(),
            Some(stem) => file.parent().unwrap().join(stem),
            None => panic!("{} has no name", file.display()),
        };
        self.add(parsed.items, at, &folder);
    }

    fn add(&mut self, items: Vec<Item>, at: &[String], folder: &Path) {
        let items: Vec<_> = items
            .into_iter()
            .filter(|item| !is_for_tests(attributes(item)))
            .collect();
        for item in &items {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let path = [at, std::slice::from_ref(&name)].concat();
            match &module.content {
                Some((_, items)) => self.add(items.clone(), &path, &folder.join(&name)),
                None => self.read(&file_of(folder, &name), &path),
            }
        }
        self.0.insert(at.to_vec(), items);
    }

    fn impls(&self) -> impl Iterator<Item = &syn::ItemImpl> {
        self.0.values().flatten().filter_map(|item| match item {
            Item::Impl(item) => Some(item),
            _ => None,
        })
    }

    /// The rules of a macro of this crate.
    fn rules(&self, name: &str) -> Option<&TokenStream> {
        self.0.values().flatten().find_map(|item| match item {
            Item::Macro(rules) if rules.ident.as_ref().is_some_and(|ident| ident == name) => {
                Some(&rules.mac.tokens)
            }
            _ => None,
        })
    }

    /// The public lines of the rules of a macro of this crate.
    fn public_rules(&self, name: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(rules) = self.rules(name) {
            public_lines(rules.clone(), &mut lines);
        }
        lines.sort();
        lines
    }

    /// What a path that is named in a module stands for: a module of this crate, or an item of one.
    fn resolve(&self, from: &[String], path: &[String]) -> Option<ModulePath> {
        let (mut at, rest) = match path.first()?.as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (from.to_vec(), &path[1..]),
            "super" => (from[..from.len().saturating_sub(1)].to_vec(), &path[1..]),
            first => {
                let below = [from, &[first.to_owned()]].concat();
                if !self.0.contains_key(&below) {
                    return None;
                }
                (from.to_vec(), path)
            }
        };
        at.extend(rest.iter().cloned());
        Some(at)
    }
}

fn file_of(folder: &Path, module: &str) -> PathBuf {
    let file = folder.join(format!("{module}.rs"));
    if file.is_file() {
        file
    } else {
        folder.join(module).join("mod.rs")
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|path| path.is_ident("test"))
    };
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") && is_test(attribute))
}

/// What an item is only there with.
fn conditions(attributes: &[Attribute]) -> String {
    let conditions = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let texts =
        conditions.map(|attribute| format!("  [{}]", tidy(attribute.meta.to_token_stream())));
    texts.collect()
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    let hides = |attribute: &Attribute| {
        attribute.path().is_ident("doc") && tidy(attribute.meta.to_token_stream()) == "doc(hidden)"
    };
    attributes.iter().any(hides)
}

/// Everything that a crate shows, a line each, below the item that it belongs to.
fn surface(package: &str, root: &Path) -> String {
    let mut sources = Crate::default();
    sources.read(root, &[]);
    let mut shown = Shown {
        sources: &sources,
        items: BTreeSet::new(),
        seen: BTreeSet::new(),
    };
    shown.module(&[], &[], "");
    let mut text = format!("# What {package} shows. `cargo xtask surface` writes it.\n");
    for (name, lines) in &shown.items {
        text.push_str(&format!("\n{name}\n"));
        text.extend(lines.iter().map(|line| format!("    {line}\n")));
    }
    text
}

struct Shown<'a> {
    sources: &'a Crate,
    /// An item's own line, and those of what belongs to it.
    items: BTreeSet<(String, Vec<String>)>,
    /// Modules that were looked at, and under which name.
    seen: BTreeSet<(ModulePath, ModulePath)>,
}

impl Shown<'_> {
    /// Shows what is public in a module, under the path by which it is reached.
    fn module(&mut self, at: &[String], under: &[String], when: &str) {
        if !self.seen.insert((at.to_vec(), under.to_vec())) {
            return;
        }
        let sources = self.sources;
        for item in sources.0.get(at).into_iter().flatten() {
            let when = format!("{when}{}", conditions(attributes(item)));
            match item {
                Item::Mod(module) if is_public(&module.vis) && !is_hidden(&module.attrs) => {
                    let name = module.ident.to_string();
                    let below = [under, std::slice::from_ref(&name)].concat();
                    self.module(&[at, &[name]].concat(), &below, &when);
                }
                Item::Use(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                    for (path, name) in leaves(&item.tree) {
                        self.exported(at, &path, name.as_deref(), under, &when);
                    }
                }
                Item::Macro(item) if is_exported(&item.attrs) => {
                    let name = item.ident.as_ref().expect("rules have a name");
                    self.line(format!("macro {name}!{when}"), Vec::new());
                }
                item => self.item(item, None, under, &when, true),
            }
        }
        // What calls of macros make in a public module.
        for item in sources.0.get(at).into_iter().flatten() {
            if let Item::Macro(item) = item
                && item.ident.is_none()
            {
                self.made(&item.mac, under, when);
            }
        }
        // Macros are shown at the root, wherever they stand.
        if at.is_empty() {
            for (path, items) in &sources.0 {
                for item in items.iter().filter(|_| !path.is_empty()) {
                    if let Item::Macro(item) = item
                        && is_exported(&item.attrs)
                    {
                        let name = item.ident.as_ref().expect("rules have a name");
                        self.line(
                            format!("macro {name}!{}", conditions(&item.attrs)),
                            Vec::new(),
                        );
                    }
                }
            }
        }
    }

    /// Shows what a `pub use` exports.
    fn exported(
        &mut self,
        at: &[String],
        path: &[String],
        name: Option<&str>,
        under: &[String],
        when: &str,
    ) {
        let Some(target) = self.sources.resolve(at, path) else {
            let path = path.join("::");
            let line = match name {
                None => format!("use {path}::*"),
                Some(name) if path.ends_with(name) => format!("use {path}"),
                Some(name) => format!("use {path} as {name}"),
            };
            self.line(format!("{}{line}{when}", prefix(under)), Vec::new());
            return;
        };
        let Some(name) = name else {
            self.module(&target, under, when);
            return;
        };
        if self.sources.0.contains_key(&target) {
            self.module(&target, &[under, &[name.to_owned()]].concat(), when);
            return;
        }
        let (original, module) = target.split_last().expect("a path names something");
        let sources = self.sources;
        let mut found = false;
        for item in sources.0.get(module).into_iter().flatten() {
            if name_of(item).as_deref() == Some(original) {
                let when = format!("{when}{}", conditions(attributes(item)));
                self.item(item, Some(name), under, &when, false);
                found = true;
            }
            if let Item::Use(item) = item
                && !found
            {
                // Exported again, from further below.
                for (path, passed) in leaves(&item.tree) {
                    if passed.as_deref() == Some(original) {
                        self.exported(module, &path, Some(name), under, when);
                        found = true;
                    }
                }
            }
        }
        if found {
            return;
        }
        let makes = |item: &&Item| match item {
            Item::Macro(item) if item.ident.is_none() => {
                let rules = sources.rules(&macro_of(&item.mac));
                names(&item.mac.tokens, original) || rules.is_some_and(|r| names(r, original))
            }
            _ => false,
        };
        let call = sources.0.get(module).into_iter().flatten().find(makes);
        match call {
            Some(Item::Macro(item)) => {
                let rules = macro_of(&item.mac);
                let lines = sources.public_rules(&rules);
                let own = self.belonging(original);
                self.line(
                    format!("{}{name} by {rules}!{when}", prefix(under)),
                    [lines, own].concat(),
                );
            }
            _ => panic!(
                "{}::{original} is exported and was not found",
                module.join("::")
            ),
        }
    }

    /// Shows what a call of a macro makes, in a public module.
    fn made(&mut self, call: &syn::Macro, under: &[String], when: &str) {
        let rules = macro_of(call);
        let lines = self.sources.public_rules(&rules);
        let call = tidy(without_docs(call.tokens.clone()));
        self.line(format!("{}{rules}!({call}){when}", prefix(under)), lines);
    }

    fn item(
        &mut self,
        item: &Item,
        name: Option<&str>,
        under: &[String],
        when: &str,
        only_public: bool,
    ) {
        let Some(original) = name_of(item) else {
            return;
        };
        if is_hidden(attributes(item)) || (only_public && !is_public(visibility(item))) {
            return;
        }
        let line = self.described(item);
        let renamed = name.filter(|name| *name != original);
        let renamed = renamed
            .map(|name| format!("  [as {name}]"))
            .unwrap_or_default();
        let mut lines = self.belonging(&original);
        if let Item::Trait(item) = item {
            lines.extend(item.items.iter().filter_map(of_trait));
            lines.sort();
        }
        self.line(format!("{}{line}{renamed}{when}", prefix(under)), lines);
    }

    fn line(&mut self, line: String, mut below: Vec<String>) {
        below.dedup();
        self.items.insert((line, below));
    }

    fn described(&self, item: &Item) -> String {
        match item {
            Item::Const(item) => tidy_parts(&[
                &quote!(const),
                &item.ident,
                &quote!(:),
                &item.ty,
                &quote!(=),
                &item.expr,
            ]),
            Item::Static(item) => tidy_parts(&[&quote!(static), &item.ident, &quote!(:), &item.ty]),
            Item::Fn(item) => signature(&item.sig),
            Item::Type(item) => tidy_parts(&[
                &quote!(type),
                &item.ident,
                &item.generics,
                &quote!(=),
                &item.ty,
            ]),
            Item::Struct(item) => {
                let clause = &item.generics.where_clause;
                let head = tidy_parts(&[&quote!(struct), &item.ident, &item.generics, clause]);
                format!("{head}{}{}", fields(&item.fields), derived(&item.attrs))
            }
            Item::Enum(item) => {
                let variants = item.variants.iter().map(|variant| {
                    let mut variant = variant.clone();
                    variant.attrs.clear();
                    for field in &mut variant.fields {
                        field.attrs.clear();
                    }
                    tidy(variant.to_token_stream())
                });
                let variants: Vec<_> = variants.collect();
                let head = tidy_parts(&[&quote!(enum), &item.ident, &item.generics]);
                format!(
                    "{head} {{ {} }}{}",
                    variants.join(", "),
                    derived(&item.attrs)
                )
            }
            Item::Trait(item) => {
                let head = tidy_parts(&[&quote!(trait), &item.ident, &item.generics]);
                let above = tidy(item.supertraits.to_token_stream());
                let colon = if above.is_empty() { "" } else { ": " };
                format!("{head}{colon}{above}")
            }
            _ => unreachable!("only what has a name is described"),
        }
    }

    /// What belongs to a type or a trait of this name: its public functions, and the traits that it implements.
    fn belonging(&self, name: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for item in self.sources.impls() {
            let of = last_segment(&item.self_ty);
            let of_trait = item.trait_.as_ref().map(|(_, path, _)| path);
            match of_trait {
                Some(path) => {
                    let is_own = of.as_deref() == Some(name);
                    let is_theirs = path.segments.last().is_some_and(|last| last.ident == name);
                    if is_own || is_theirs {
                        let generics = &item.generics;
                        let head = tidy_parts(&[
                            &quote!(impl),
                            generics,
                            path,
                            &quote!(for),
                            &item.self_ty,
                        ]);
                        lines.push(format!("{head}{}", conditions(&item.attrs)));
                    }
                }
                None if of.as_deref() == Some(name) => {
                    let when = conditions(&item.attrs);
                    lines.extend(
                        item.items
                            .iter()
                            .filter_map(of_impl)
                            .map(|line| format!("{line}{when}")),
                    );
                }
                None => {}
            }
        }
        lines.sort();
        lines
    }
}

fn prefix(under: &[String]) -> String {
    if under.is_empty() {
        String::new()
    } else {
        format!("{}:: ", under.join("::"))
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_exported(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("macro_export"))
        && !is_hidden(attributes)
}

fn visibility(item: &Item) -> &Visibility {
    match item {
        Item::Const(item) => &item.vis,
        Item::Enum(item) => &item.vis,
        Item::Fn(item) => &item.vis,
        Item::Static(item) => &item.vis,
        Item::Struct(item) => &item.vis,
        Item::Trait(item) => &item.vis,
        Item::Type(item) => &item.vis,
        _ => &Visibility::Inherited,
    }
}

/// The name of what is described by itself.
fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

fn last_segment(of: &syn::Type) -> Option<String> {
    match of {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        syn::Type::Reference(reference) => last_segment(&reference.elem),
        _ => None,
    }
}

/// Public fields, and whether there are others.
fn fields(fields: &Fields) -> String {
    let mut shown: Vec<_> = fields
        .iter()
        .filter(|field| is_public(&field.vis))
        .cloned()
        .collect();
    for field in &mut shown {
        field.attrs.clear();
        field.vis = Visibility::Inherited;
    }
    let mut texts: Vec<_> = shown
        .iter()
        .map(|field| tidy(field.to_token_stream()))
        .collect();
    if texts.len() < fields.len() {
        texts.push("..".to_owned());
    }
    match fields {
        Fields::Named(_) => format!(" {{ {} }}", texts.join(", ")),
        Fields::Unnamed(_) => format!("({})", texts.join(", ")),
        Fields::Unit => String::new(),
    }
}

/// The name of the macro that is called.
fn macro_of(call: &syn::Macro) -> String {
    let last = call.path.segments.last().expect("a macro has a name");
    last.ident.to_string()
}

/// A signature, without what is the body's own business.
fn signature(signature: &syn::Signature) -> String {
    let mut signature = signature.clone();
    for argument in &mut signature.inputs {
        match argument {
            syn::FnArg::Receiver(this) if this.reference.is_none() => this.mutability = None,
            syn::FnArg::Typed(argument) => {
                if let syn::Pat::Ident(name) = &mut *argument.pat {
                    name.mutability = None;
                }
            }
            syn::FnArg::Receiver(_) => {}
        }
    }
    tidy(signature.to_token_stream())
}

/// What is derived, and whether more may come.
fn derived(attributes: &[Attribute]) -> String {
    let told = attributes.iter().filter(|attribute| {
        let path = attribute.path();
        path.is_ident("derive") || path.is_ident("non_exhaustive") || path.is_ident("deprecated")
    });
    told.map(|attribute| format!("  {}", tidy(attribute.meta.to_token_stream())))
        .collect()
}

fn of_impl(item: &ImplItem) -> Option<String> {
    let (attributes, visibility) = match item {
        ImplItem::Const(item) => (&item.attrs, &item.vis),
        ImplItem::Fn(item) => (&item.attrs, &item.vis),
        _ => return None,
    };
    if !is_public(visibility) || is_hidden(attributes) {
        return None;
    }
    let line = match item {
        ImplItem::Const(item) => tidy_parts(&[
            &quote!(const),
            &item.ident,
            &quote!(:),
            &item.ty,
            &quote!(=),
            &item.expr,
        ]),
        ImplItem::Fn(item) => signature(&item.sig),
        _ => return None,
    };
    Some(format!("{line}{}", conditions(attributes)))
}

fn of_trait(item: &TraitItem) -> Option<String> {
    match item {
        TraitItem::Const(item) => Some(tidy_parts(&[
            &quote!(const),
            &item.ident,
            &quote!(:),
            &item.ty,
        ])),
        TraitItem::Fn(item) => {
            let provided = if item.default.is_some() {
                "  [provided]"
            } else {
                ""
            };
            Some(format!("{}{provided}", signature(&item.sig)))
        }
        TraitItem::Type(item) => {
            let mut item = item.clone();
            item.attrs.clear();
            Some(tidy(item.to_token_stream()))
        }
        _ => None,
    }
}

/// Every path that a `use` names, and what it is called here; no name for all that is there.
fn leaves(tree: &UseTree) -> Vec<(ModulePath, Option<String>)> {
    match tree {
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            let mut leaves = leaves(&path.tree);
            for (below, name) in &mut leaves {
                if name.as_deref() == Some("self") {
                    *name = Some(first.clone());
                }
                below.insert(0, first.clone());
            }
            leaves
        }
        UseTree::Name(name) if name.ident == "self" => vec![(Vec::new(), Some("self".to_owned()))],
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], Some(name.ident.to_string()))],
        UseTree::Rename(rename) => vec![(
            vec![rename.ident.to_string()],
            Some(rename.rename.to_string()),
        )],
        UseTree::Glob(_) => vec![(Vec::new(), None)],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// Whether tokens hold this name.
fn names(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => names(&group.stream(), name),
        _ => false,
    })
}

/// From each `pub` to the body or the end of what it makes public.
fn public_lines(tokens: TokenStream, lines: &mut Vec<String>) {
    let mut line: Option<TokenStream> = None;
    let (mut angles, mut after_dash) = (0_i32, false);
    for token in without_docs(tokens) {
        let (mut ends, mut dash) = (false, false);
        match &token {
            TokenTree::Group(group) => ends = group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' => ends = true,
                ',' => ends = angles == 0,
                '<' => angles += 1,
                '>' if !after_dash => angles -= 1,
                '-' | '=' => dash = true,
                _ => {}
            },
            _ => {}
        }
        after_dash = dash;
        if let TokenTree::Group(group) = &token
            && (line.is_none() || ends)
        {
            public_lines(group.stream(), lines);
        }
        if matches!(&token, TokenTree::Ident(ident) if ident == "pub") {
            (line, angles) = (Some(TokenStream::new()), 0);
        } else if ends {
            lines.extend(line.take().map(tidy));
        } else if let Some(line) = &mut line {
            line.extend([token]);
        }
    }
    lines.extend(line.map(tidy));
    lines.retain(|line| !line.is_empty());
}

/// Tokens without comments of documentation.
fn without_docs(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    for token in tokens {
        match &token {
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket && names(&group.stream(), "doc") =>
            {
                // The `#` before it, and the `!` of an inner one.
                while kept.last().is_some_and(
                    |last| matches!(last, TokenTree::Punct(p) if matches!(p.as_char(), '#' | '!')),
                ) {
                    kept.pop();
                }
            }
            TokenTree::Group(group) => {
                let group =
                    proc_macro2::Group::new(group.delimiter(), without_docs(group.stream()));
                kept.push(TokenTree::Group(group));
            }
            _ => kept.push(token),
        }
    }
    kept.into_iter().collect()
}

fn tidy_parts(parts: &[&dyn Tokens]) -> String {
    let mut tokens = TokenStream::new();
    for part in parts {
        part.add(&mut tokens);
    }
    tidy(tokens)
}

/// `ToTokens`, behind a pointer.
trait Tokens {
    fn add(&self, tokens: &mut TokenStream);
}

impl<T: ToTokens> Tokens for T {
    fn add(&self, tokens: &mut TokenStream) {
        self.to_tokens(tokens);
    }
}

/// Tokens as somebody would write them, nearly: which spaces a version of the parser puts is not told.
fn tidy(tokens: TokenStream) -> String {
    let mut text = String::new();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\'' | '"' | '$');
    for piece in tokens.to_string().split_whitespace() {
        let (last, first) = (text.chars().last(), piece.chars().next());
        let apart = match (last, first) {
            (Some('$'), _) => false,
            (Some(last), Some(first)) if (is_word(last) || last == '>') && is_word(first) => true,
            (Some(',' | ';'), _) => true,
            (_, Some('{' | '}')) | (Some('{' | '}'), _) => true,
            (Some(':'), _) => !text.ends_with("::"),
            _ => {
                let around = |text: &str| matches!(text, "->" | "=" | "+" | "=>");
                around(piece) || text.rsplit(' ').next().is_some_and(around)
            }
        };
        if apart && !text.is_empty() && !text.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(piece);
    }
    // Whether a list ends with a comma depends on the length of its line.
    for (comma, without) in [
        (", )", ")"),
        (",)", ")"),
        (", }", " }"),
        (", >", ">"),
        (",>", ">"),
    ] {
        text = text.replace(comma, without);
    }
    text.trim_end_matches([',', ';']).to_owned()
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

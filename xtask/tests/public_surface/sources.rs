//! A crate's sources: its modules, and what a path in one stands for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use syn::{Attribute, Item};

use crate::text::public_lines;

/// Where a module stands below the root.
pub(crate) type ModulePath = Vec<String>;

/// A crate's sources: the items of each module that is not for tests.
#[derive(Default)]
pub(crate) struct Crate(pub(crate) BTreeMap<ModulePath, Vec<Item>>);

impl Crate {
    /// Reads a file, and the files of its modules.
    pub(crate) fn read(&mut self, file: &Path, at: &[String]) {
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

    pub(crate) fn impls(&self) -> impl Iterator<Item = &syn::ItemImpl> {
        self.0.values().flatten().filter_map(|item| match item {
            Item::Impl(item) => Some(item),
            _ => None,
        })
    }

    /// The rules of a macro of this crate.
    pub(crate) fn rules(&self, name: &str) -> Option<&TokenStream> {
        self.0.values().flatten().find_map(|item| match item {
            Item::Macro(rules) if rules.ident.as_ref().is_some_and(|ident| ident == name) => {
                Some(&rules.mac.tokens)
            }
            _ => None,
        })
    }

    /// The public lines of the rules of a macro of this crate.
    pub(crate) fn public_rules(&self, name: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(rules) = self.rules(name) {
            public_lines(rules.clone(), &mut lines);
        }
        lines.sort();
        lines
    }

    /// What a path that is named in a module stands for: a module of this crate, or an item of one.
    pub(crate) fn resolve(&self, from: &[String], path: &[String]) -> Option<ModulePath> {
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

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
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

//! What can be reached from a crate's root, a line each.

use std::collections::BTreeSet;
use std::path::Path;

use quote::{ToTokens, quote};
use syn::Item;

use crate::items::{
    conditions, derived, fields, is_exported, is_hidden, is_public, last_segment, leaves, macro_of,
    name_of, of_impl, of_trait, signature, visibility,
};
use crate::sources::{Crate, ModulePath, attributes};
use crate::text::{names, tidy, tidy_parts, without_docs};

/// Everything that a crate shows, a line each, below the item that it belongs to.
pub(crate) fn surface(package: &str, root: &Path) -> String {
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

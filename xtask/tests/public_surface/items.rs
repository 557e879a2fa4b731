//! An item, as far as others see it.

use quote::{ToTokens, quote};
use syn::{Attribute, Fields, ImplItem, Item, TraitItem, UseTree, Visibility};

use crate::sources::ModulePath;
use crate::text::{tidy, tidy_parts};

/// What an item is only there with.
pub(crate) fn conditions(attributes: &[Attribute]) -> String {
    let conditions = attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"));
    let texts =
        conditions.map(|attribute| format!("  [{}]", tidy(attribute.meta.to_token_stream())));
    texts.collect()
}

pub(crate) fn is_hidden(attributes: &[Attribute]) -> bool {
    let hides = |attribute: &Attribute| {
        attribute.path().is_ident("doc") && tidy(attribute.meta.to_token_stream()) == "doc(hidden)"
    };
    attributes.iter().any(hides)
}

pub(crate) fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

pub(crate) fn is_exported(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("macro_export"))
        && !is_hidden(attributes)
}

pub(crate) fn visibility(item: &Item) -> &Visibility {
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
pub(crate) fn name_of(item: &Item) -> Option<String> {
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

pub(crate) fn last_segment(of: &syn::Type) -> Option<String> {
    match of {
        syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        syn::Type::Reference(reference) => last_segment(&reference.elem),
        _ => None,
    }
}

/// Public fields, and whether there are others.
pub(crate) fn fields(fields: &Fields) -> String {
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
pub(crate) fn macro_of(call: &syn::Macro) -> String {
    let last = call.path.segments.last().expect("a macro has a name");
    last.ident.to_string()
}

/// A signature, without what is the body's own business.
pub(crate) fn signature(signature: &syn::Signature) -> String {
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
pub(crate) fn derived(attributes: &[Attribute]) -> String {
    let told = attributes.iter().filter(|attribute| {
        let path = attribute.path();
        path.is_ident("derive") || path.is_ident("non_exhaustive") || path.is_ident("deprecated")
    });
    told.map(|attribute| format!("  {}", tidy(attribute.meta.to_token_stream())))
        .collect()
}

pub(crate) fn of_impl(item: &ImplItem) -> Option<String> {
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

pub(crate) fn of_trait(item: &TraitItem) -> Option<String> {
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
pub(crate) fn leaves(tree: &UseTree) -> Vec<(ModulePath, Option<String>)> {
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

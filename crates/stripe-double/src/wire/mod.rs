//! What goes over the wire: form-encoded parameters in, errors, lists and expansions out.

pub(crate) mod error;
pub(crate) mod expand;
pub(crate) mod form;
pub(crate) mod list;
pub(crate) mod params;

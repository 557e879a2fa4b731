//! The filters that lists of libraries and galleries share.

use rawdrive_http_api::web::{Problem, Validator};

use crate::{NameListing, NameOrder, Title};

/// A list by name, of the parameters `name` and `sort` and the key of the page's cursor.
pub(super) fn name_listing(
    name: Option<String>,
    sort: Option<String>,
    after_key: Option<String>,
) -> Result<NameListing, Problem> {
    let mut v = Validator::new();
    let name = v.check_some("name", name, |text| match text.chars().count() {
        1..=200 => Ok(Title::from_stored(text).folded()),
        _ => Err("must be 1 to 200 characters"),
    });
    let order = v.check_some("sort", sort, |text| {
        let (descending, by) = descending(&text);
        let by_name = match by {
            "created_at" => false,
            "name" => true,
            _ => return Err("must be created_at or name, or one of them with - before it"),
        };
        Ok(NameOrder {
            by_name,
            descending,
        })
    });
    v.finish()?;
    Ok(NameListing {
        name,
        order: order.unwrap_or_default(),
        after_key,
    })
}

/// Whether an order is the other way round, and by what it is.
pub(super) fn descending(sort: &str) -> (bool, &str) {
    match sort.strip_prefix('-') {
        Some(by) => (true, by),
        None => (false, sort),
    }
}

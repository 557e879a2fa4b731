//! Cursor lists: newest first, `limit`, `starting_after`, `ending_before`, and ranges on points in time.

use std::borrow::Borrow;

use serde_json::{Value, json};

use super::error::{Answer, ApiError};
use super::params::Params;
use crate::json::{Fields as _, visible};

/// The parameters that every list takes.
pub(crate) const PAGING: [&str; 3] = ["limit", "starting_after", "ending_before"];

/// Whether a point in time lies in the range that a parameter states: exact, or by `gt`, `gte`, `lt`, `lte`.
pub(crate) fn in_range(params: &Params, key: &str, at: Option<i64>) -> Result<bool, ApiError> {
    let Some(range) = params.child(key) else {
        return Ok(match params.integer(key)? {
            Some(exact) => at == Some(exact),
            None => true,
        });
    };
    range.only(&["gt", "gte", "lt", "lte"])?;
    let bounds = [
        range
            .integer("gt")?
            .map(|bound| at.is_some_and(|at| at > bound)),
        range
            .integer("gte")?
            .map(|bound| at.is_some_and(|at| at >= bound)),
        range
            .integer("lt")?
            .map(|bound| at.is_some_and(|at| at < bound)),
        range
            .integer("lte")?
            .map(|bound| at.is_some_and(|at| at <= bound)),
    ];
    Ok(bounds.into_iter().flatten().all(|holds| holds))
}

/// One page of `rows`, which come newest first.
pub(crate) fn page<R: Borrow<Value>>(params: &Params, url: &str, rows: Vec<R>) -> Answer {
    let limit = params.integer("limit")?.unwrap_or(10);
    let limit = match usize::try_from(limit) {
        Ok(limit @ 1..=100) => limit,
        _ => {
            return Err(ApiError::malformed(
                "limit",
                Some("parameter_invalid_integer"),
                "Limit must be between 1 and 100",
            ));
        }
    };
    let place = |key: &str| -> Result<Option<usize>, ApiError> {
        let Some(cursor) = params.text(key)? else {
            return Ok(None);
        };
        let found = rows
            .iter()
            .position(|row| row.borrow().text("id") == cursor);
        found.map(Some).ok_or_else(|| {
            let noun = rows
                .first()
                .map_or("object", |row| row.borrow().text("object"));
            ApiError::no_such(noun, &cursor, key, false)
        })
    };
    let (from, to, has_more) = if let Some(before) = place("ending_before")? {
        let from = before.saturating_sub(limit);
        (from, before, from > 0)
    } else {
        let from = place("starting_after")?.map_or(0, |at| at + 1);
        let to = rows.len().min(from + limit);
        (from, to, to < rows.len())
    };
    let shown = rows[from.min(to)..to].iter();
    let data: Vec<_> = shown.map(|row| visible(row.borrow())).collect();
    Ok(json!({ "object": "list", "data": data, "has_more": has_more, "url": url }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::form;

    fn ids(query: &str) -> (Vec<String>, bool) {
        let rows = (0..5)
            .rev()
            .map(|n| json!({ "id": format!("r{n}"), "object": "row" }));
        let params = Params::new(form::decode(query).unwrap());
        let list = page(&params, "/v1/rows", rows.collect()).unwrap();
        let ids = list
            .rows("data")
            .iter()
            .map(|row| row.text("id").to_owned());
        (ids.collect(), list.flag("has_more"))
    }

    #[test]
    fn pages_go_forward_and_back() {
        assert_eq!(ids("limit=2"), (vec!["r4".into(), "r3".into()], true));
        assert_eq!(
            ids("limit=2&starting_after=r2"),
            (vec!["r1".into(), "r0".into()], false)
        );
        assert_eq!(
            ids("limit=2&ending_before=r1"),
            (vec!["r3".into(), "r2".into()], true)
        );
        assert_eq!(ids("limit=2&ending_before=r3"), (vec!["r4".into()], false));
    }

    #[test]
    fn limits_and_cursors_are_checked() {
        let rows = vec![json!({ "id": "a", "object": "row" })];
        let bad = |query: &str| {
            let params = Params::new(form::decode(query).unwrap());
            page(&params, "/v1/rows", rows.clone()).unwrap_err()
        };
        assert_eq!(bad("limit=0").status, 400);
        assert_eq!(bad("limit=101").status, 400);
        assert_eq!(bad("starting_after=zzz").fields["code"], "resource_missing");
    }

    #[test]
    fn ranges_bound_both_sides() {
        let params = Params::new(form::decode("created[gte]=5&created[lt]=8").unwrap());
        let inside: Vec<_> = (0..10)
            .filter(|at| in_range(&params, "created", Some(*at)).unwrap())
            .collect();
        assert_eq!(inside, [5, 6, 7]);
    }
}

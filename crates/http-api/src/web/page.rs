//! Lists: `limit`, `cursor` and filters in, `items` and `next_cursor` out.

use rawdrive_tenancy_core::id::WorkspaceId;
use rawdrive_tenancy_core::page::{
    CursorCodec, DEFAULT_LIMIT, InvalidCursor, MAX_LIMIT, Page, PageRequest, Position,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::problem::{Code, Problem};
use super::query::{from_pairs, pairs};

/// The parameters that every list takes, for the API's document.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "the document's source; `PageQuery` reads the parameters"
)]
pub struct PageParams {
    /// How many items at most.
    #[param(
        minimum = 1,
        maximum = 200,
        default = 50,
        required = false,
        nullable = false
    )]
    limit: Option<u16>,
    /// `next_cursor` of the page before, with the same other parameters.
    #[param(required = false, nullable = false)]
    cursor: Option<String>,
}

/// The filters of a list that has none.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoFilters {}

/// One page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ListView<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
}

/// Which page of which list is asked for.
#[derive(Debug, Clone)]
pub struct PageQuery {
    /// What the store is asked.
    pub request: PageRequest,
    /// Of a list that is sorted by a text: that of the last item before the page.
    pub after_key: Option<String>,
    workspace: WorkspaceId,
    list: String,
}

impl PageQuery {
    /// Reads the query string of the list `list` (its name, with the id of what it belongs to, such as
    /// `notes/fol_…`). All parameters besides `limit` and `cursor` are filters: they go to `F`, which denies
    /// unknown fields, and a cursor holds only for the same filters.
    ///
    /// # Errors
    /// 400 `invalid_cursor`; 422 naming the parameter.
    pub fn read<F: DeserializeOwned>(
        query: &str,
        codec: &CursorCodec,
        workspace: WorkspaceId,
        list: &str,
    ) -> Result<(Self, F), Problem> {
        Self::read_by(query, workspace, list, |list, cursor| {
            let position = codec.open(workspace, list, cursor)?;
            Ok((position, None))
        })
    }

    /// As [`read`](Self::read), of a list that is sorted by a text, and by id where the text is the same. In which order
    /// is one of its filters. Its pages are made by [`view_sorted`](Self::view_sorted).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_sorted<F: DeserializeOwned>(
        query: &str,
        codec: &CursorCodec,
        workspace: WorkspaceId,
        list: &str,
    ) -> Result<(Self, F), Problem> {
        Self::read_by(query, workspace, list, |list, cursor| {
            let (key, id) = codec.open_keyed(workspace, list, cursor)?;
            Ok((Position::Id(id), Some(key)))
        })
    }

    fn read_by<F: DeserializeOwned>(
        query: &str,
        workspace: WorkspaceId,
        list: &str,
        open: impl FnOnce(&str, &str) -> Result<(Position, Option<String>), InvalidCursor>,
    ) -> Result<(Self, F), Problem> {
        let mut filters = pairs(query)?;
        let limit = take(&mut filters, "limit");
        let cursor = take(&mut filters, "cursor");
        filters.sort_unstable();
        // As JSON, so that no value can pass for two parameters.
        let list = format!(
            "{list}?{}",
            serde_json::to_string(&filters).map_err(Problem::internal)?
        );
        let opened = cursor.map(|cursor| {
            open(&list, &cursor).map_err(|InvalidCursor| {
                Problem::new(
                    Code::InvalidCursor,
                    "The cursor was not issued for this list with these filters.",
                )
            })
        });
        let (after, after_key) = match opened.transpose()? {
            Some((position, key)) => (Some(position), key),
            None => (None, None),
        };
        let limit = match limit {
            None => DEFAULT_LIMIT,
            Some(text) => {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                text.parse()
                    .ok()
                    .filter(|limit| digits && (1..=MAX_LIMIT).contains(limit))
                    .ok_or_else(|| {
                        Problem::invalid_field(
                            "limit",
                            format!("expected a number from 1 to {MAX_LIMIT}"),
                        )
                    })?
            }
        };
        let filters = from_pairs(filters)?;
        Ok((
            Self {
                request: PageRequest { limit, after },
                after_key,
                workspace,
                list,
            },
            filters,
        ))
    }

    /// The page of a sorted list as it goes over the wire; `key` is what an item is sorted by.
    pub fn view_sorted<T, U>(
        &self,
        page: Page<T>,
        codec: &CursorCodec,
        key: impl FnOnce(&T) -> String,
        item: impl FnMut(T) -> U,
    ) -> ListView<U> {
        let next = match (page.next, page.items.last()) {
            (Some(Position::Id(id)), Some(last)) => {
                Some(codec.seal_keyed(self.workspace, &self.list, &key(last), id))
            }
            _ => None,
        };
        ListView {
            next_cursor: next,
            items: page.items.into_iter().map(item).collect(),
        }
    }

    /// The page as it goes over the wire.
    pub fn view<T, U>(
        &self,
        page: Page<T>,
        codec: &CursorCodec,
        item: impl FnMut(T) -> U,
    ) -> ListView<U> {
        ListView {
            next_cursor: page
                .next
                .map(|position| codec.seal(self.workspace, &self.list, position)),
            items: page.items.into_iter().map(item).collect(),
        }
    }
}

fn take(pairs: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let at = pairs.iter().position(|(n, _)| n == name)?;
    Some(pairs.swap_remove(at).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rawdrive_tenancy_core::id::TypedId;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Filters {
        status: Option<String>,
    }

    fn workspace(n: u128) -> WorkspaceId {
        WorkspaceId::from_uuid(uuid::Uuid::from_u128(n))
    }

    fn read(query: &str) -> Result<PageQuery, Problem> {
        PageQuery::read::<Filters>(query, &CursorCodec::new(&[1; 32]), workspace(1), "notes").map(
            |(page, filters)| {
                assert!(filters.status.is_none_or(|status| status == "open"));
                page
            },
        )
    }

    #[test]
    fn a_limit_is_1_to_200_and_50_by_default() {
        assert_eq!(read("").unwrap().request.limit, 50);
        assert_eq!(read("limit=1").unwrap().request.limit, 1);
        assert_eq!(read("limit=200").unwrap().request.limit, 200);
        for bad in [
            "limit=0",
            "limit=201",
            "limit=-1",
            "limit=+5",
            "limit=",
            "limit=x",
            "limit=99999999999",
        ] {
            let problem = read(bad).unwrap_err();
            assert_eq!(problem.code, Code::ValidationFailed, "{bad}");
            assert_eq!(problem.members["errors"][0]["field"], "limit");
        }
    }

    #[test]
    fn a_cursor_holds_for_the_same_workspace_list_and_filters_alone() {
        let codec = CursorCodec::new(&[1; 32]);
        let page = Page {
            items: vec![1],
            next: Some(Position::Seq(9)),
        };
        let view = read("status=open&limit=1")
            .unwrap()
            .view(page, &codec, |n| n);
        let cursor = view.next_cursor.unwrap();
        let same = read(&format!("cursor={cursor}&status=open")).unwrap();
        assert_eq!(same.request.after, Some(Position::Seq(9)));
        for other in [
            format!("cursor={cursor}"),
            format!("cursor={cursor}&status=closed"),
            "cursor=".into(),
        ] {
            assert_eq!(
                read(&other).unwrap_err().code,
                Code::InvalidCursor,
                "{other}"
            );
        }
        let query = format!("cursor={cursor}&status=open");
        assert!(PageQuery::read::<Filters>(&query, &codec, workspace(2), "notes").is_err());
        assert!(PageQuery::read::<Filters>(&query, &codec, workspace(1), "folders").is_err());
    }

    #[test]
    fn a_sorted_list_goes_on_after_its_last_items_text() {
        let codec = CursorCodec::new(&[1; 32]);
        let read = |query: &str| {
            PageQuery::read_sorted::<Filters>(query, &codec, workspace(1), "notes")
                .map(|(page, _)| page)
        };
        let id = uuid::Uuid::from_u128(7);
        let page = Page {
            items: vec!["a", "b"],
            next: Some(Position::Id(id)),
        };
        let first = read("status=open").unwrap();
        let view = first.view_sorted(page, &codec, |last| (*last).to_owned(), |item| item);
        let cursor = view.next_cursor.unwrap();
        let next = read(&format!("status=open&cursor={cursor}")).unwrap();
        assert_eq!(next.request.after, Some(Position::Id(id)));
        assert_eq!(next.after_key.as_deref(), Some("b"));
        assert!(read(&format!("cursor={cursor}")).is_err());
        let whole = Page {
            items: vec!["a"],
            next: None,
        };
        let view = first.view_sorted(whole, &codec, |last| (*last).to_owned(), |item| item);
        assert_eq!(view.next_cursor, None);
    }

    #[test]
    fn an_unknown_filter_is_named() {
        let problem = read("workspace=1").unwrap_err();
        assert_eq!(problem.members["errors"][0]["field"], "workspace");
    }
}

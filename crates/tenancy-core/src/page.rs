//! Pages by keyset.

use uuid::Uuid;

#[cfg(feature = "cursors")]
pub use crate::cursor::{CursorCodec, InvalidCursor};

/// Items a page holds unless the client says otherwise.
pub const DEFAULT_LIMIT: u16 = 50;
/// The most items a page holds.
pub const MAX_LIMIT: u16 = 200;

/// The last item of a page in its list's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Lists ordered by id.
    Id(Uuid),
    /// Lists ordered by sequence number.
    Seq(u64),
}

/// Which page of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to [`MAX_LIMIT`].
    pub limit: u16,
    /// The position after which the page begins.
    pub after: Option<Position>,
}

impl PageRequest {
    /// The id after which the page of a list by ids begins; before all others, where it is the first page.
    #[must_use]
    pub const fn after_id(self) -> Uuid {
        match self.after {
            Some(Position::Id(id)) => id,
            _ => Uuid::nil(),
        }
    }
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// At most `limit` items.
    pub items: Vec<T>,
    /// Where the next page begins, if there is one.
    pub next: Option<Position>,
}

impl<T> Page<T> {
    /// Makes a page of up to `limit + 1` items that were read to see whether there is another page.
    #[must_use]
    pub fn cut(mut items: Vec<T>, limit: u16, position: impl Fn(&T) -> Position) -> Self {
        let more = items.len() > usize::from(limit);
        items.truncate(usize::from(limit));
        let next = if more {
            items.last().map(position)
        } else {
            None
        };
        Self { items, next }
    }

    /// The same page in another shape.
    #[must_use]
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_another_follows() {
        let page = Page::cut(vec![1, 2, 3], 2, |n| Position::Seq(*n));
        assert_eq!(
            page,
            Page {
                items: vec![1, 2],
                next: Some(Position::Seq(2))
            }
        );
        assert_eq!(Page::cut(vec![1, 2], 2, |n| Position::Seq(*n)).next, None);
    }
}

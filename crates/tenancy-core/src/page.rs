//! Pages by keyset, and cursors that are opaque, tamper-proof and bound to their workspace and list.

use aws_lc_rs::{constant_time, hmac};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

use crate::id::WorkspaceId;

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

/// A text that is no cursor of this list in this workspace.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the cursor was not issued for this list")]
pub struct InvalidCursor;

/// Seals positions into cursors with HMAC-SHA-256, cut to 128 bits (RFC 2104, section 5).
#[derive(Debug)]
pub struct CursorCodec(hmac::Key);

const TAG_BYTES: usize = 16;

impl CursorCodec {
    /// A codec under a key that is used for nothing else.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The cursor for a position. `list` names the list and its filters.
    #[must_use]
    pub fn seal(&self, workspace: WorkspaceId, list: &str, position: Position) -> String {
        let mut bytes = match position {
            Position::Id(id) => [&[0], id.as_bytes().as_slice()].concat(),
            Position::Seq(seq) => [&[1], seq.to_be_bytes().as_slice()].concat(),
        };
        let tag = self.tag(workspace, list, &bytes);
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position that a cursor holds.
    ///
    /// # Errors
    /// The cursor was altered, or issued for another workspace or list.
    pub fn open(
        &self,
        workspace: WorkspaceId,
        list: &str,
        cursor: &str,
    ) -> Result<Position, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
        let body_len = bytes.len().checked_sub(TAG_BYTES).ok_or(InvalidCursor)?;
        let (body, tag) = bytes.split_at(body_len);
        constant_time::verify_slices_are_equal(&self.tag(workspace, list, body), tag)
            .map_err(|_| InvalidCursor)?;
        match body.split_first() {
            Some((0, id)) => Uuid::from_slice(id)
                .map(Position::Id)
                .map_err(|_| InvalidCursor),
            Some((1, seq)) => seq
                .try_into()
                .map(u64::from_be_bytes)
                .map(Position::Seq)
                .map_err(|_| InvalidCursor),
            _ => Err(InvalidCursor),
        }
    }

    fn tag(&self, workspace: WorkspaceId, list: &str, body: &[u8]) -> [u8; TAG_BYTES] {
        use crate::id::TypedId;
        let mut context = hmac::Context::with_key(&self.0);
        context.update(workspace.uuid().as_bytes());
        context.update(&(list.len() as u64).to_be_bytes());
        context.update(list.as_bytes());
        context.update(body);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TypedId;

    #[test]
    fn a_cursor_opens_only_where_it_was_issued_and_unaltered() {
        let codec = CursorCodec::new(&[3; 32]);
        let (here, there) = (
            WorkspaceId::from_uuid(Uuid::from_u128(1)),
            WorkspaceId::from_uuid(Uuid::from_u128(2)),
        );
        for position in [Position::Id(Uuid::from_u128(9)), Position::Seq(u64::MAX)] {
            let cursor = codec.seal(here, "members", position);
            assert_eq!(codec.open(here, "members", &cursor), Ok(position));
            assert_eq!(codec.open(there, "members", &cursor), Err(InvalidCursor));
            assert_eq!(codec.open(here, "invitations", &cursor), Err(InvalidCursor));
            for i in 0..cursor.len() {
                let mut bytes = cursor.clone().into_bytes();
                bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
                let altered = String::from_utf8(bytes).unwrap();
                // Base64's last digit carries unused bits; a decoder that ignored them would accept a twin.
                assert_eq!(
                    codec.open(here, "members", &altered),
                    Err(InvalidCursor),
                    "digit {i}"
                );
            }
        }
        assert_eq!(codec.open(here, "members", ""), Err(InvalidCursor));
    }

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

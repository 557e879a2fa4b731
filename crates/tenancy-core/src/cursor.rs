//! Cursors that are opaque, tamper-proof and bound to their workspace and list.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac_sha256::HMAC;
use uuid::Uuid;

use crate::id::WorkspaceId;
use crate::page::Position;

/// A text that is no cursor of this list in this workspace.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the cursor was not issued for this list")]
pub struct InvalidCursor;

/// Seals positions into cursors with HMAC-SHA-256, cut to 128 bits (RFC 2104, section 5).
pub struct CursorCodec([u8; 32]);

impl std::fmt::Debug for CursorCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CursorCodec").finish_non_exhaustive()
    }
}

const TAG_BYTES: usize = 16;

impl CursorCodec {
    /// A codec under a key that is used for nothing else.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(*key)
    }

    /// The cursor for a position. `list` names the list and its filters.
    #[must_use]
    pub fn seal(&self, workspace: WorkspaceId, list: &str, position: Position) -> String {
        let bytes = match position {
            Position::Id(id) => [&[0], id.as_bytes().as_slice()].concat(),
            Position::Seq(seq) => [&[1], seq.to_be_bytes().as_slice()].concat(),
        };
        self.wrap(workspace, list, bytes)
    }

    /// The cursor for a position in a list that is sorted by a text, and by id where the text is the same.
    #[must_use]
    pub fn seal_keyed(&self, workspace: WorkspaceId, list: &str, key: &str, id: Uuid) -> String {
        let bytes = [&[2], id.as_bytes().as_slice(), key.as_bytes()].concat();
        self.wrap(workspace, list, bytes)
    }

    fn wrap(&self, workspace: WorkspaceId, list: &str, mut bytes: Vec<u8>) -> String {
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
        let body = self.unwrap(workspace, list, cursor)?;
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

    /// The text and the id that a cursor of [`seal_keyed`](Self::seal_keyed) holds.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_keyed(
        &self,
        workspace: WorkspaceId,
        list: &str,
        cursor: &str,
    ) -> Result<(String, Uuid), InvalidCursor> {
        let body = self.unwrap(workspace, list, cursor)?;
        let Some((2, rest)) = body.split_first() else {
            return Err(InvalidCursor);
        };
        let (id, key) = rest.split_at_checked(16).ok_or(InvalidCursor)?;
        let id = Uuid::from_slice(id).map_err(|_| InvalidCursor)?;
        let key = String::from_utf8(key.to_vec()).map_err(|_| InvalidCursor)?;
        Ok((key, id))
    }

    fn unwrap(
        &self,
        workspace: WorkspaceId,
        list: &str,
        cursor: &str,
    ) -> Result<Vec<u8>, InvalidCursor> {
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
        let body_len = bytes.len().checked_sub(TAG_BYTES).ok_or(InvalidCursor)?;
        let (body, tag) = bytes.split_at(body_len);
        if !are_equal(&self.tag(workspace, list, body), tag) {
            return Err(InvalidCursor);
        }
        bytes.truncate(body_len);
        Ok(bytes)
    }

    fn tag(&self, workspace: WorkspaceId, list: &str, body: &[u8]) -> [u8; TAG_BYTES] {
        use crate::id::TypedId;
        let mut context = HMAC::new(self.0);
        context.update(workspace.uuid().as_bytes());
        context.update((list.len() as u64).to_be_bytes());
        context.update(list.as_bytes());
        context.update(body);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&context.finalize()[..TAG_BYTES]);
        tag
    }
}

/// In a time that does not tell where they differ: every byte is looked at.
fn are_equal(tag: &[u8; TAG_BYTES], given: &[u8]) -> bool {
    let pairs = tag.iter().zip(given);
    let differences = pairs.fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    given.len() == TAG_BYTES && differences == 0
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
    fn a_cursor_of_a_sorted_list_holds_its_text_and_is_no_other_kind() {
        let codec = CursorCodec::new(&[3; 32]);
        let here = WorkspaceId::from_uuid(Uuid::from_u128(1));
        let id = Uuid::from_u128(9);
        for key in ["", "img_0042.jpg", "müller & söhne 📷"] {
            let cursor = codec.seal_keyed(here, "files", key, id);
            let opened = codec.open_keyed(here, "files", &cursor);
            assert_eq!(opened, Ok((key.to_owned(), id)));
            assert_eq!(codec.open_keyed(here, "x", &cursor), Err(InvalidCursor));
            assert_eq!(codec.open(here, "files", &cursor), Err(InvalidCursor));
        }
        let by_id = codec.seal(here, "files", Position::Id(id));
        assert_eq!(codec.open_keyed(here, "files", &by_id), Err(InvalidCursor));
    }

    /// As issued by releases that sealed with other code.
    #[test]
    fn a_cursor_of_an_earlier_release_still_opens() {
        let codec = CursorCodec::new(&[3; 32]);
        let here = WorkspaceId::from_uuid(Uuid::from_u128(1));
        let position = Position::Seq(7);
        let cursor = "AQAAAAAAAAAHMyyIq3pStvo4uacgW7goow";
        assert_eq!(codec.seal(here, "members", position), cursor);
        assert_eq!(codec.open(here, "members", cursor), Ok(position));
    }
}

use rawdrive_tenancy_core::id::{TypedId as _, WorkspaceId};
use rawdrive_tenancy_core::page::{CursorCodec, InvalidCursor, Page, PageRequest, Position};

fn id(n: u8) -> WorkspaceId {
    let text = format!("ws_{:032x}", n);
    text.parse().expect("an id")
}

#[test]
fn a_page_is_cut_at_its_limit_and_says_where_the_next_begins() {
    for (read, limit, items, next) in [
        (0, 2, 0, None),
        (1, 2, 1, None),
        (2, 2, 2, None),
        (3, 2, 2, Some(2)),
        (2, 1, 1, Some(1)),
    ] {
        let page = Page::cut((1..=read).collect(), limit, |n| Position::Seq(*n));
        assert_eq!(page.items.len(), items, "{read} of {limit}");
        assert_eq!(page.next, next.map(Position::Seq), "{read} of {limit}");
        let shown = page.clone().map(|n| n.to_string());
        let texts: Vec<_> = page.items.iter().map(u64::to_string).collect();
        assert_eq!((shown.items, shown.next), (texts, page.next));
    }
}

#[test]
fn a_list_by_ids_begins_after_an_id_or_before_all() {
    let uuid = id(9).uuid();
    for (after, expected) in [
        (Some(Position::Id(uuid)), uuid),
        (Some(Position::Seq(3)), id(0).uuid()),
        (None, id(0).uuid()),
    ] {
        let request = PageRequest { limit: 1, after };
        assert_eq!(request.after_id(), expected);
    }
}

#[test]
fn a_cursor_is_of_one_key_workspace_list_and_position() {
    let (codec, other) = (CursorCodec::new(&[3; 32]), CursorCodec::new(&[4; 32]));
    let by_id = codec.seal(id(1), "notes", Position::Id(id(2).uuid()));
    let by_seq = codec.seal(id(1), "notes", Position::Seq(2));
    assert_eq!(
        codec.open(id(1), "notes", &by_id),
        Ok(Position::Id(id(2).uuid()))
    );
    assert_eq!(codec.open(id(1), "notes", &by_seq), Ok(Position::Seq(2)));
    for refused in [
        other.open(id(1), "notes", &by_id),
        codec.open(id(2), "notes", &by_id),
        codec.open(id(1), "note", &by_id),
        codec.open(id(1), "notes", &by_id[..by_id.len() - 4]),
        codec.open(id(1), "notes", "?"),
        codec.open(id(1), "notes", "AAAA"),
    ] {
        assert_eq!(refused, Err(InvalidCursor));
    }
    // 17 or 9 bytes of position, 16 of tag.
    assert_eq!((by_id.len(), by_seq.len()), (44, 34));
}

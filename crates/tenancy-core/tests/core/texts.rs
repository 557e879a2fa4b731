use rawdrive_tenancy_core::text::{Hidden, check_visible};

#[test]
fn what_varies_or_joins_stands_where_it_does_something() {
    let hidden = Err(Hidden::Invisible);
    for (text, expected) in [
        // A selector behind a letter with its mark, and behind a space.
        ("e\u{301}\u{fe0f}", Ok(())),
        ("a \u{fe0f}", hidden),
        // Of two joiners behind a virama one is too many.
        ("क\u{94d}\u{200d}ष", Ok(())),
        ("क\u{94d}\u{200d}\u{200d}ष", hidden),
        ("क\u{94d}\u{200c}\u{200c}ष", hidden),
        // A blank of Braille before a cell, behind one, and alone.
        ("\u{2800}⠃", Ok(())),
        ("⠃\u{2800}", Ok(())),
        ("a\u{2800}b", hidden),
        // A flag of seven tags at most, of tags alone.
        (
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            Ok(()),
        ),
        (
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e0061}\u{e0061}\u{e007f}",
            hidden,
        ),
        ("🏴x\u{e0067}", hidden),
        ("🏴\u{e0020}\u{e0067}", hidden),
    ] {
        assert_eq!(check_visible(text), expected, "{text:?}");
    }
}

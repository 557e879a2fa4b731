//! What a text that people type means, and what of it can be seen.
//!
//! Two texts that read the same are the same wherever texts are compared: [`normal`] and [`folded`] say how. What
//! cannot be seen or turns the text around it round has no place in a name: [`check_visible`] refuses it where
//! somebody types a name, [`visible`] takes it out of one that came from elsewhere.
//!
//! ```
//! use rawdrive_tenancy_core::text::{Hidden, check_visible, folded, normal, visible};
//! assert_eq!(normal("Zoe\u{308}"), "Zoë");
//! assert_eq!(folded("STRASSE"), folded("straße"));
//! assert_eq!(check_visible("Zoë 👩‍🎨"), Ok(()));
//! assert_eq!(check_visible("\u{3164}"), Err(Hidden::Invisible));
//! assert_eq!(visible("invoice\u{202e}gpj.exe"), "invoicegpj.exe");
//! ```
//!
//! Invariant: what [`visible`] answers, [`check_visible`] takes, unless nothing is left of it.

use std::borrow::Cow;

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizer;
use icu_properties::props::{
    BidiControl, DefaultIgnorableCodePoint, ExtendedPictographic, GeneralCategory,
    IndicSyllabicCategory, JoiningType, NoncharacterCodePoint, PrependedConcatenationMark,
    VariationSelector,
};
use icu_properties::{CodePointMapData, CodePointSetData};

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';
/// A cell of Braille without a dot: it looks like a space, and is none to Unicode.
const BRAILLE_BLANK: char = '\u{2800}';
/// A note head that is drawn as nothing.
const NULL_NOTEHEAD: char = '\u{1d159}';
/// What flags of regions are written with begins with it.
const BLACK_FLAG: char = '\u{1f3f4}';

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Hidden {
    /// It holds a line break or another control character.
    #[error("must hold no control characters")]
    Control,
    /// It holds a character that turns the direction of the text.
    #[error("must hold no characters that turn the direction of text")]
    Direction,
    /// It holds a character that cannot be seen, or nothing else.
    #[error("must hold no characters that cannot be seen")]
    Invisible,
}

/// The normal form in which a text is kept: NFC.
#[must_use]
pub fn normal(text: &str) -> String {
    ComposingNormalizer::new_nfc().normalize(text).into_owned()
}

/// The form in which texts are compared that differ at most in case, width or ligatures: full case folding of the
/// compatibility normal form. An i keeps no dot of its own, so that the dotted I of Turkish is an i too.
#[must_use]
pub fn folded(text: &str) -> String {
    let nfkc = ComposingNormalizer::new_nfkc();
    let once = |text: &str| {
        let folded = CaseMapper::new()
            .fold_string(&nfkc.normalize(text))
            .into_owned();
        nfkc.normalize(&folded.replace("i\u{307}", "i"))
            .into_owned()
    };
    // Folding can make a sequence that normalises to something that folds: the second time nothing does.
    once(&once(text))
}

/// Whether somebody who reads the text sees all of it, in its order, and sees something.
///
/// Joiners stand where a script or an emoji needs them, and variation selectors behind what they vary.
///
/// # Errors
/// What is hidden first.
pub fn check_visible(text: &str) -> Result<(), Hidden> {
    let chars: Vec<char> = text.chars().collect();
    for at in 0..chars.len() {
        if let Some(hidden) = hidden(&chars, at) {
            return Err(hidden);
        }
    }
    if chars.iter().any(|c| is_ink(*c)) {
        Ok(())
    } else {
        Err(Hidden::Invisible)
    }
}

/// The text without what [`check_visible`] refuses; a control character becomes a space.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    // What stood between two joiners may have been all that gave them a right to stand there.
    loop {
        let chars: Vec<char> = text.chars().collect();
        let mut out = String::with_capacity(text.len());
        for (at, c) in chars.iter().enumerate() {
            match hidden(&chars, at) {
                None => out.push(*c),
                Some(Hidden::Control) => out.push(' '),
                Some(Hidden::Direction | Hidden::Invisible) => {}
            }
        }
        if out == *text {
            return text;
        }
        text = Cow::Owned(out);
    }
}

/// Why the character at this place is not seen, unless it is or needs not be.
fn hidden(chars: &[char], at: usize) -> Option<Hidden> {
    let c = chars[at];
    if c.is_ascii() {
        return c.is_ascii_control().then_some(Hidden::Control);
    }
    let category = category(c);
    let is_control = matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    let noncharacter = CodePointSetData::new::<NoncharacterCodePoint>();
    if is_control || noncharacter.contains(c) {
        return Some(Hidden::Control);
    }
    if CodePointSetData::new::<BidiControl>().contains(c) {
        return Some(Hidden::Direction);
    }
    let may_stand = match c {
        ZWJ | ZWNJ => joins(chars, at),
        BRAILLE_BLANK => beside(chars, at, is_braille),
        NULL_NOTEHEAD => false,
        _ if CodePointSetData::new::<VariationSelector>().contains(c) => {
            at > 0 && (is_ink(chars[at - 1]) || is_mark(chars[at - 1]))
        }
        '\u{e0020}'..='\u{e007f}' => is_flag(&chars[..=at]),
        _ if CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c) => false,
        // The number signs of Arabic and Syriac are formats that are seen.
        _ if category == GeneralCategory::Format => {
            CodePointSetData::new::<PrependedConcatenationMark>().contains(c)
        }
        _ => true,
    };
    (!may_stand).then_some(Hidden::Invisible)
}

/// Whether a joiner does something where it stands: between the letters of a script that joins or stacks, behind
/// what takes a vowel away, or between pictures.
fn joins(chars: &[char], at: usize) -> bool {
    let mut before = chars[..at].iter().rev().copied();
    let Some(before) = before.find(|c| !is_attached(*c)) else {
        return false;
    };
    let direct = chars[at - 1];
    let after = chars.get(at + 1).copied();
    let kills_vowel = matches!(
        indic(direct),
        IndicSyllabicCategory::Virama
            | IndicSyllabicCategory::PureKiller
            | IndicSyllabicCategory::InvisibleStacker
    );
    if kills_vowel {
        // A word may end with it: Malayalam's chillu letters were once written so.
        return after.is_none_or(|c| c != ZWJ && c != ZWNJ);
    }
    let Some(after) = after else { return false };
    let is_picture = |c| CodePointSetData::new::<ExtendedPictographic>().contains(c);
    if is_picture(before) && chars[at] == ZWJ {
        return is_picture(after);
    }
    let cursive = |c| {
        !matches!(
            CodePointMapData::<JoiningType>::new().get(c),
            JoiningType::NonJoining | JoiningType::Transparent
        )
    };
    let complex = |c| cursive(c) || indic(c) != IndicSyllabicCategory::Other;
    let is_letter = |c: char| c.is_alphabetic() || is_mark(c);
    complex(before) && complex(after) && is_letter(after)
}

/// Marks, selectors and skin tones: what belongs to the character before it.
fn is_attached(c: char) -> bool {
    is_mark(c) || category(c) == GeneralCategory::ModifierSymbol && !c.is_ascii()
}

fn is_mark(c: char) -> bool {
    matches!(
        category(c),
        GeneralCategory::NonspacingMark
            | GeneralCategory::SpacingMark
            | GeneralCategory::EnclosingMark
    )
}

/// Whether these are the beginning of a region's flag: the black flag, tags of letters and digits, the last tag.
fn is_flag(chars: &[char]) -> bool {
    let Some(start) = chars.iter().rposition(|c| *c == BLACK_FLAG) else {
        return false;
    };
    let Some((last, tags)) = chars[start + 1..].split_last() else {
        return false;
    };
    let is_tag = |c: &char| matches!(c, '\u{e0030}'..='\u{e0039}' | '\u{e0061}'..='\u{e007a}');
    tags.len() <= 6 && tags.iter().all(is_tag) && (is_tag(last) || *last == '\u{e007f}')
}

fn is_braille(c: char) -> bool {
    matches!(c, '\u{2801}'..='\u{28ff}')
}

fn beside(chars: &[char], at: usize, holds: impl Fn(char) -> bool) -> bool {
    let before = at.checked_sub(1).and_then(|at| chars.get(at));
    [before, chars.get(at + 1)]
        .into_iter()
        .flatten()
        .any(|c| holds(*c))
}

/// Whether the character leaves a mark of its own on paper.
fn is_ink(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_graphic();
    }
    let has_shape = !matches!(
        category(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::SpaceSeparator
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::NonspacingMark
            | GeneralCategory::EnclosingMark
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned
    );
    has_shape
        && !matches!(c, BRAILLE_BLANK | NULL_NOTEHEAD)
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

fn indic(c: char) -> IndicSyllabicCategory {
    CodePointMapData::<IndicSyllabicCategory>::new().get(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_the_same_folds_the_same() {
        for same in [
            &["straße", "STRASSE", "Strasse", "STRAẞE"][..],
            &["ΟΔΥΣΣΕΥΣ", "οδυσσευς", "οδυσσευσ", "Οδυσσευς"],
            &["ſam", "sam", "SAM"],
            &["İrem", "irem", "IREM", "i\u{307}rem", "I\u{307}rem"],
            &["Kelvin", "\u{212a}elvin", "kelvin"],
            &["zoë", "ZOE\u{308}", "Zoe\u{308}"],
            &["ﬁnn", "Finn", "ＦＩＮＮ"],
            &["ᾳ", "ᾼ", "αι"],
            &["Å", "\u{212b}", "å", "A\u{30a}"],
        ] {
            let first = folded(same[0]);
            for text in same {
                assert_eq!(folded(text), first, "{text}");
                assert_eq!(folded(&folded(text)), first, "{text}");
            }
        }
        // What reads differently stays different.
        assert_ne!(folded("ırem"), folded("irem"));
        assert_ne!(folded("søren"), folded("soren"));
        assert_ne!(folded("zoe"), folded("zoë"));
    }

    #[test]
    fn names_as_people_have_them_are_visible() {
        for name in [
            "Ana",
            "Zoë Çelik",
            "O\u{2019}Brien & Söhne – Studio №5",
            "Нина Ивановна",
            "山田 太郎",
            "山田\u{3000}太郎",
            "김철수",
            "יוסף כהן",
            "محمد علي",
            // Persian: "I want"; the name Amir-Ali written with a non-joiner.
            "می\u{200c}خواهم",
            "امیر\u{200c}علی",
            // Devanagari, Malayalam chillu at the end, Sinhala, Bengali ya-phalaa.
            "हिन्दी",
            "क्\u{200d}ष",
            "രാജന\u{d4d}\u{200d}",
            "ශ\u{dca}\u{200d}\u{dbb}ී",
            "র\u{200d}\u{9cd}যা",
            // Family, artist with a skin tone, heart with its selector, a head that nods, Scotland, a keycap.
            "👩\u{200d}👩\u{200d}👧 Studio",
            "👩🏽\u{200d}🎨",
            "I \u{2764}\u{fe0f} tea",
            "🙂\u{200d}\u{2194}\u{fe0f}",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "1\u{fe0f}\u{20e3}",
            "⠠⠃⠗⠇\u{2800}⠃",
            "葛\u{e0100}城",
            "!",
        ] {
            assert_eq!(check_visible(name), Ok(()), "{name:?}");
            assert_eq!(visible(name), name);
        }
    }

    #[test]
    fn what_cannot_be_seen_or_turns_text_round_is_found() {
        use Hidden::{Control, Direction, Invisible};
        for (text, hidden, left) in [
            ("", Invisible, ""),
            (" \u{a0}\u{3000}", Invisible, " \u{a0}\u{3000}"),
            ("\u{301}", Invisible, "\u{301}"),
            ("a\u{200b}b", Invisible, "ab"),
            ("\u{3164}", Invisible, ""),
            ("\u{115f}\u{1160}", Invisible, ""),
            ("\u{ffa0}", Invisible, ""),
            ("\u{2800}", Invisible, ""),
            ("a\u{2800}b", Invisible, "ab"),
            ("a\u{ad}b", Invisible, "ab"),
            ("a\u{2060}b", Invisible, "ab"),
            ("a\u{feff}b", Invisible, "ab"),
            ("a\u{34f}b", Invisible, "ab"),
            ("a\u{180e}b", Invisible, "ab"),
            ("a\u{17b5}b", Invisible, "ab"),
            ("a\u{1d159}b", Invisible, "ab"),
            ("a\u{1d173}b", Invisible, "ab"),
            ("a\u{fff9}b", Invisible, "ab"),
            ("a\u{e0001}b", Invisible, "ab"),
            // "no" in tags, which no flag carries.
            ("a\u{e006e}\u{e006f}", Invisible, "a"),
            ("\u{fe0f}a", Invisible, "a"),
            // A joiner that joins nothing.
            ("a\u{200d}b", Invisible, "ab"),
            ("a\u{200c}b", Invisible, "ab"),
            ("\u{200d}", Invisible, ""),
            ("👩\u{200d}", Invisible, "👩"),
            ("👩\u{200d}\u{200d}👧", Invisible, "👩👧"),
            ("محمد\u{200c}", Invisible, "محمد"),
            ("म\u{200b}\u{200d}", Invisible, "म"),
            ("gpj\u{202e}exe", Direction, "gpjexe"),
            ("a\u{202a}b\u{202c}", Direction, "ab"),
            ("a\u{2066}b\u{2069}", Direction, "ab"),
            ("a\u{200e}\u{200f}\u{61c}b", Direction, "ab"),
            ("a\nb", Control, "a b"),
            ("a\0", Control, "a "),
            ("a\u{85}b", Control, "a b"),
            ("a\u{2028}b", Control, "a b"),
            ("a\u{fffe}b", Control, "a b"),
        ] {
            assert_eq!(check_visible(text), Err(hidden), "{text:?}");
            assert_eq!(visible(text), left, "{text:?}");
        }
    }
}

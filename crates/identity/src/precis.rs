//! Secrets as RFC 8265 section 4.2 (`OpaqueString`) compares them: a password is the same on every keyboard that types
//! the same text.

use icu_normalizer::ComposingNormalizer;
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, GeneralCategory, HangulSyllableType,
    JoiningType, NoncharacterCodePoint, Script,
};
use icu_properties::{CodePointMapData, CodePointSetData};

const ZWNJ: char = '\u{200c}';
const ZWJ: char = '\u{200d}';

/// The text prepared for comparison: every space is U+0020, and the whole is in NFC. Nothing for a text that is
/// empty or holds a code point that the profile refuses, since no two keyboards can be trusted to type it alike.
pub(crate) fn opaque_string(text: &str) -> Option<String> {
    let is_space = |c: char| category(c) == GeneralCategory::SpaceSeparator;
    let spaced: String = text
        .chars()
        .map(|c| if is_space(c) { ' ' } else { c })
        .collect();
    let prepared = ComposingNormalizer::new_nfc()
        .normalize(&spaced)
        .into_owned();
    // The class is asked of what is compared: some keyboards type Korean in the letters that syllables are made of.
    let chars: Vec<char> = prepared.chars().collect();
    let holds = !chars.is_empty() && (0..chars.len()).all(|at| is_free_form(&chars, at));
    holds.then_some(prepared)
}

/// Whether the code point is in the FreeformClass where it stands (RFC 8264 sections 4.3 and 8).
fn is_free_form(chars: &[char], at: usize) -> bool {
    let c = chars[at];
    match c {
        // Exceptions (RFC 5892 section 2.6), of which those that are allowed anyway are left out.
        '\u{b7}' => middle_dot(chars, at),
        '\u{375}' => chars
            .get(at + 1)
            .is_some_and(|c| script(*c) == Script::Greek),
        '\u{5f3}' | '\u{5f4}' => at > 0 && script(chars[at - 1]) == Script::Hebrew,
        '\u{30fb}' => chars.iter().any(|c| {
            matches!(
                script(*c),
                Script::Hiragana | Script::Katakana | Script::Han
            )
        }),
        '\u{660}'..='\u{669}' => !chars.iter().any(|c| matches!(c, '\u{6f0}'..='\u{6f9}')),
        '\u{6f0}'..='\u{6f9}' => !chars.iter().any(|c| matches!(c, '\u{660}'..='\u{669}')),
        '\u{6fd}' | '\u{6fe}' | '\u{f0b}' | '\u{3007}' => true,
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}' => {
            false
        }
        '!'..='~' => true,
        ZWNJ => follows_virama(chars, at) || breaks_a_join(chars, at),
        ZWJ => follows_virama(chars, at),
        _ => is_of_the_class(c),
    }
}

fn is_of_the_class(c: char) -> bool {
    let is_old_hangul = matches!(
        CodePointMapData::<HangulSyllableType>::new().get(c),
        HangulSyllableType::LeadingJamo
            | HangulSyllableType::VowelJamo
            | HangulSyllableType::TrailingJamo
    );
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c);
    let category = category(c);
    let is_control = matches!(
        category,
        GeneralCategory::Control | GeneralCategory::Unassigned
    );
    if is_old_hangul || ignorable || is_control {
        return false;
    }
    has_compatible(c)
        || !matches!(
            category,
            GeneralCategory::Format
                | GeneralCategory::PrivateUse
                | GeneralCategory::Surrogate
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        )
}

/// RFC 8264 section 9.17.
fn has_compatible(c: char) -> bool {
    let text = c.to_string();
    ComposingNormalizer::new_nfkc().normalize(&text) != text
}

/// RFC 5892 appendix A.3.
fn middle_dot(chars: &[char], at: usize) -> bool {
    at > 0 && chars[at - 1] == 'l' && chars.get(at + 1) == Some(&'l')
}

/// RFC 5892 appendices A.1 and A.2.
fn follows_virama(chars: &[char], at: usize) -> bool {
    let class = CodePointMapData::<CanonicalCombiningClass>::new();
    at > 0 && class.get(chars[at - 1]) == CanonicalCombiningClass::Virama
}

/// RFC 5892 appendix A.1: between two letters that would join.
fn breaks_a_join(chars: &[char], at: usize) -> bool {
    let joining = |c: char| CodePointMapData::<JoiningType>::new().get(c);
    let seen = |c: &&char| joining(**c) != JoiningType::Transparent;
    let before = chars[..at].iter().rev().find(seen).copied().map(joining);
    let after = chars[at + 1..].iter().find(seen).copied().map(joining);
    matches!(
        before,
        Some(JoiningType::LeftJoining | JoiningType::DualJoining)
    ) && matches!(
        after,
        Some(JoiningType::RightJoining | JoiningType::DualJoining)
    )
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

fn script(c: char) -> Script {
    CodePointMapData::<Script>::new().get(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `precis_i18n` 1.1, a Python library of the same profile, makes of these texts.
    const VECTORS: &str = include_str!("precis_vectors.json");

    #[test]
    fn an_independent_implementation_prepares_the_same() {
        let vectors: Vec<(String, Option<String>)> = serde_json::from_str(VECTORS).unwrap();
        assert!(vectors.len() > 300);
        for (text, prepared) in vectors {
            assert_eq!(opaque_string(&text), prepared, "{text:?}");
        }
    }
}

//! Tokens as text.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// Whether tokens hold this name.
pub(crate) fn names(tokens: &TokenStream, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => names(&group.stream(), name),
        _ => false,
    })
}

/// From each `pub` to the body or the end of what it makes public.
pub(crate) fn public_lines(tokens: TokenStream, lines: &mut Vec<String>) {
    let mut line: Option<TokenStream> = None;
    let (mut angles, mut after_dash) = (0_i32, false);
    for token in without_docs(tokens) {
        let (mut ends, mut dash) = (false, false);
        match &token {
            TokenTree::Group(group) => ends = group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' => ends = true,
                ',' => ends = angles == 0,
                '<' => angles += 1,
                '>' if !after_dash => angles -= 1,
                '-' | '=' => dash = true,
                _ => {}
            },
            _ => {}
        }
        after_dash = dash;
        if let TokenTree::Group(group) = &token
            && (line.is_none() || ends)
        {
            public_lines(group.stream(), lines);
        }
        if matches!(&token, TokenTree::Ident(ident) if ident == "pub") {
            (line, angles) = (Some(TokenStream::new()), 0);
        } else if ends {
            lines.extend(line.take().map(tidy));
        } else if let Some(line) = &mut line {
            line.extend([token]);
        }
    }
    lines.extend(line.map(tidy));
    lines.retain(|line| !line.is_empty());
}

/// Tokens without comments of documentation.
pub(crate) fn without_docs(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    for token in tokens {
        match &token {
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket && names(&group.stream(), "doc") =>
            {
                // The `#` before it, and the `!` of an inner one.
                while kept.last().is_some_and(
                    |last| matches!(last, TokenTree::Punct(p) if matches!(p.as_char(), '#' | '!')),
                ) {
                    kept.pop();
                }
            }
            TokenTree::Group(group) => {
                let group =
                    proc_macro2::Group::new(group.delimiter(), without_docs(group.stream()));
                kept.push(TokenTree::Group(group));
            }
            _ => kept.push(token),
        }
    }
    kept.into_iter().collect()
}

pub(crate) fn tidy_parts(parts: &[&dyn Tokens]) -> String {
    let mut tokens = TokenStream::new();
    for part in parts {
        part.add(&mut tokens);
    }
    tidy(tokens)
}

/// `ToTokens`, behind a pointer.
pub(crate) trait Tokens {
    fn add(&self, tokens: &mut TokenStream);
}

impl<T: ToTokens> Tokens for T {
    fn add(&self, tokens: &mut TokenStream) {
        self.to_tokens(tokens);
    }
}

/// Tokens as somebody would write them, nearly: which spaces a version of the parser puts is not told.
pub(crate) fn tidy(tokens: TokenStream) -> String {
    let mut text = String::new();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '\'' | '"' | '$');
    for piece in tokens.to_string().split_whitespace() {
        let (last, first) = (text.chars().last(), piece.chars().next());
        let apart = match (last, first) {
            (Some('$'), _) => false,
            (Some(last), Some(first)) if (is_word(last) || last == '>') && is_word(first) => true,
            (Some(',' | ';'), _) => true,
            (_, Some('{' | '}')) | (Some('{' | '}'), _) => true,
            (Some(':'), _) => !text.ends_with("::"),
            _ => {
                let around = |text: &str| matches!(text, "->" | "=" | "+" | "=>");
                around(piece) || text.rsplit(' ').next().is_some_and(around)
            }
        };
        if apart && !text.is_empty() && !text.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(piece);
    }
    // Whether a list ends with a comma depends on the length of its line.
    for (comma, without) in [
        (", )", ")"),
        (",)", ")"),
        (", }", " }"),
        (", >", ">"),
        (",>", ">"),
    ] {
        text = text.replace(comma, without);
    }
    text.trim_end_matches([',', ';']).to_owned()
}

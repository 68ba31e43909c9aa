//! A Rust file as the rules see it: its tokens outside tests, without comments, each with its line.
//!
//! Read by the tokenizer that procedural macros use, so that text in strings and comments is never taken for code.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// One word, literal or sign of code; `::` is one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Token {
    /// As written.
    pub(crate) text: String,
    /// The line it starts on, from 1.
    pub(crate) line: usize,
    /// The line it ends on.
    pub(crate) last: usize,
}

/// A colon that another sign touches: most often the first half of `::`.
const HALF: &str = ": ";

/// A function with a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`.
    pub(crate) line: usize,
    /// The line of its closing brace.
    pub(crate) last: usize,
}

/// A Rust file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// Whether it is only compiled for tests.
    pub(crate) test: bool,
    /// Code outside tests and comments.
    pub(crate) tokens: Vec<Token>,
    /// Functions outside tests.
    pub(crate) functions: Vec<Function>,
    /// Paths that `use` brings in outside tests, groups written out.
    pub(crate) uses: Vec<Token>,
    /// Modules in files of their own that only tests have.
    test_modules: Vec<String>,
}

impl Source {
    /// Reads a file that is in the workspace as `path`.
    pub(crate) fn read(path: &str, text: &str) -> Self {
        let stream: TokenStream =
            text.parse().unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        let mut source = Self {
            path: path.into(),
            text: text.into(),
            // What a package keeps beside `src` is compiled for tests and benchmarks alone, and so is this crate.
            test: !path.split('/').any(|folder| folder == "src"),
            tokens: Vec::new(),
            functions: Vec::new(),
            uses: Vec::new(),
            test_modules: Vec::new(),
        };
        source.walk(stream);
        source
    }

    /// Lines that hold code.
    pub(crate) fn lines_of_code(&self) -> usize {
        let mut count = 0;
        let mut counted = 0;
        for token in &self.tokens {
            let from = token.line.max(counted + 1);
            count += (token.last + 1).saturating_sub(from);
            counted = counted.max(token.last);
        }
        count
    }

    /// Lines where `pattern` occurs: tokens with a space between each two.
    pub(crate) fn find(&self, pattern: &str) -> Vec<usize> {
        let pattern: Vec<&str> = pattern.split(' ').collect();
        self.tokens
            .windows(pattern.len())
            .filter(|window| window.iter().map(|token| &token.text).eq(&pattern))
            .map(|window| window[0].line)
            .collect()
    }

    fn walk(&mut self, stream: TokenStream) {
        let trees: Vec<TokenTree> = stream.into_iter().collect();
        let mut at = 0;
        while at < trees.len() {
            if let Some((text, after)) = attribute(&trees, at) {
                at = if text.starts_with("doc=") {
                    after
                } else if is_test(&text) {
                    self.skip_item(&trees, after)
                } else {
                    self.take(&trees[at]);
                    at + 1
                };
                continue;
            }
            match word(&trees[at]).as_deref() {
                Some("fn") => self.function(&trees, at),
                Some("use") => self.usage(&trees[at + 1..]),
                _ => {}
            }
            self.take(&trees[at]);
            at += 1;
        }
    }

    /// The place behind the item at `at`, which only tests have.
    fn skip_item(&mut self, trees: &[TokenTree], mut at: usize) -> usize {
        while let Some((_, after)) = attribute(trees, at) {
            at = after;
        }
        let item = &trees[at..];
        let ends = |tree: &TokenTree| is(tree, ';') || group(tree, Delimiter::Brace).is_some();
        let length = item.iter().position(ends).map_or(item.len(), |end| end + 1);
        let words: Vec<String> = item[..length].iter().filter_map(word).collect();
        if item.get(length - 1).is_some_and(|tree| is(tree, ';'))
            && let Some(module) = words.iter().position(|word| word == "mod")
        {
            self.test_modules.extend(words.get(module + 1).cloned());
        }
        at + length
    }

    fn function(&mut self, trees: &[TokenTree], at: usize) {
        // `fn(u8)` is a type.
        let Some(name) = trees.get(at + 1).and_then(word) else {
            return;
        };
        let ends = |tree: &&TokenTree| is(tree, ';') || group(tree, Delimiter::Brace).is_some();
        if let Some(body @ TokenTree::Group(_)) = trees[at..].iter().find(ends) {
            self.functions.push(Function {
                name,
                line: trees[at].span().start().line,
                last: body.span().end().line,
            });
        }
    }

    fn usage(&mut self, trees: &[TokenTree]) {
        // `impl Trait + use<'a>` brings in nothing.
        if trees.first().is_some_and(|tree| is(tree, '<')) {
            return;
        }
        let length = trees.iter().position(|tree| is(tree, ';')).unwrap_or(trees.len());
        paths("", &trees[..length], &mut self.uses);
    }

    fn take(&mut self, tree: &TokenTree) {
        let (line, last) = (tree.span().start().line, tree.span().end().line);
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                self.push(open, line, line);
                self.walk(group.stream());
                self.push(close, last, last);
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => match self.tokens.last_mut() {
                Some(token) if token.text == HALF => token.text = "::".into(),
                _ if punct.spacing() == Spacing::Joint => self.push(HALF, line, last),
                _ => self.push(":", line, last),
            },
            other => self.push(&other.to_string(), line, last),
        }
    }

    fn push(&mut self, text: &str, line: usize, last: usize) {
        self.tokens.push(Token { text: text.into(), line, last });
    }
}

/// Where modules lie that `source` declares for tests alone: paths without `.rs`.
pub(crate) fn test_modules(source: &Source) -> Vec<String> {
    let module = source.path.trim_end_matches(".rs");
    let (folder, name) = module.rsplit_once('/').unwrap_or(("", module));
    let folder = match name {
        "lib" | "main" | "mod" => folder,
        _ => module,
    };
    source.test_modules.iter().map(|test| format!("{folder}/{test}")).collect()
}

/// The text of the attribute at `at`, without white space, and the place behind it.
fn attribute(trees: &[TokenTree], at: usize) -> Option<(String, usize)> {
    if !is(trees.get(at)?, '#') {
        return None;
    }
    let inner = usize::from(trees.get(at + 1).is_some_and(|tree| is(tree, '!')));
    let at = at + 1 + inner;
    let stream = group(trees.get(at)?, Delimiter::Bracket)?;
    let mut text = stream.to_string();
    text.retain(|c| !c.is_whitespace());
    Some((text, at + 1))
}

fn is_test(attribute: &str) -> bool {
    attribute == "test"
        || attribute.starts_with("tokio::test")
        || attribute.starts_with("cfg(test)")
        || attribute.starts_with("cfg(all(test,")
}

/// Writes out the paths of a use tree.
fn paths(prefix: &str, trees: &[TokenTree], out: &mut Vec<Token>) {
    for branch in trees.split(|tree| is(tree, ',')) {
        let mut path = prefix.to_owned();
        let mut group = None;
        for tree in branch {
            match tree {
                TokenTree::Group(inner) => group = Some(inner),
                other => path.push_str(&other.to_string()),
            }
        }
        match (group, branch.first()) {
            (Some(group), _) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                paths(&path, &inner, out);
            }
            (None, Some(first)) => out.push(Token {
                text: path,
                line: first.span().start().line,
                last: first.span().end().line,
            }),
            (None, None) => {}
        }
    }
}

fn is(tree: &TokenTree, sign: char) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == sign)
}

fn word(tree: &TokenTree) -> Option<String> {
    match tree {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

fn group(tree: &TokenTree, delimiter: Delimiter) -> Option<TokenStream> {
    match tree {
        TokenTree::Group(group) if group.delimiter() == delimiter => Some(group.stream()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"//! What it is.

/// Says `std::fs`.
#[derive(Debug)]
pub struct A {
    call: fn(u8), // async
}

use std::{collections::BTreeMap, io::{self, Read as _}};

fn one() -> &'static str {
    "tokio::spawn
    over two lines"
}

#[test]
fn two() { std::fs::read("x") }

#[cfg(test)]
mod far;

#[cfg(test)]
pub(crate) mod near {
    fn three() {}
}

impl A {
    async fn four(&self) where Self: Sized {
        a::b().await
    }
}
"#;

    fn source() -> Source {
        Source::read("x/src/a.rs", TEXT)
    }

    #[test]
    fn comments_strings_and_tests_are_no_code() {
        let source = source();
        assert!(source.find("fs").is_empty());
        assert!(source.find("tokio").is_empty());
        assert!(source.find("three").is_empty());
        assert_eq!(source.find("async"), [28]);
        assert_eq!(source.find(". await"), [29]);
        assert_eq!(source.find("a :: b"), [29]);
        // derive, struct (3), use, function (4), impl (5).
        assert_eq!(source.lines_of_code(), 14);
    }

    #[test]
    fn functions_are_measured_from_their_name_to_their_end() {
        let told: Vec<_> =
            source().functions.iter().map(|f| (f.name.clone(), f.line, f.last)).collect();
        assert_eq!(told, [("one".into(), 11, 14), ("four".into(), 28, 30)]);
    }

    #[test]
    fn groups_of_uses_are_written_out() {
        let told: Vec<_> = source().uses.iter().map(|path| path.text.clone()).collect();
        assert_eq!(told, ["std::collections::BTreeMap", "std::io::self", "std::io::Readas_"]);
    }

    #[test]
    fn modules_of_tests_are_found_beside_their_parent() {
        assert_eq!(test_modules(&source()), ["x/src/a/far"]);
        let lib = Source::read("x/src/lib.rs", "#[cfg(test)] mod tests;");
        assert_eq!(test_modules(&lib), ["x/src/tests"]);
        assert!(!lib.test);
        assert!(Source::read("x/tests/a.rs", "").test);
        assert!(Source::read("tests/house/main.rs", "").test);
    }
}

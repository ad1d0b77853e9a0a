//! The project's own files, read just well enough to check their lines: comments and texts told apart from code.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Hidden folders that are part of the project; others belong to somebody's editor or to git.
const HIDDEN: &[&str] = &[".ci", ".config"];
/// Folders that tools fill.
const BUILT: &[&str] = &["target", "node_modules"];

/// The top of the repository.
pub(crate) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under a folder of the repository, sorted, as paths from its top.
pub(crate) fn files(folder: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    walk(&top().join(folder), &mut found)?;
    let mut paths: Vec<String> =
        found.iter().filter_map(|path| path.strip_prefix(top()).ok()).map(|path| path.to_string_lossy().replace('\\', "/")).collect();
    paths.sort();
    Ok(paths)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if kind.is_dir() && !BUILT.contains(&name.as_ref()) && (!name.starts_with('.') || HIDDEN.contains(&name.as_ref())) {
            walk(&entry.path(), found)?;
        } else if kind.is_file() && name != ".git" {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// One Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the top of the repository: `src/hl7/mod.rs`.
    pub(crate) path: String,
    /// As it stands.
    pub(crate) text: String,
    /// Without its tests, without comments, and with every text emptied; the lines are those of the file.
    pub(crate) code: String,
    /// The texts in that code, with the line each begins on.
    pub(crate) literals: Vec<(usize, String)>,
}

impl Source {
    /// Reads and takes apart one file.
    pub(crate) fn read(path: &str) -> io::Result<Self> {
        Ok(Self::parse(path, fs::read_to_string(top().join(path))?))
    }

    fn parse(path: &str, text: String) -> Self {
        let (code, literals) = split(before_tests(&text));
        Self { path: path.to_owned(), text, code, literals }
    }

    /// All files of the crate that are no tests.
    pub(crate) fn all() -> io::Result<Vec<Self>> {
        let rust = files("src")?.into_iter().filter(|path| is_rust(path) && !path.ends_with("/tests.rs") && !path.contains("/tests/"));
        rust.map(|path| Self::read(&path)).collect()
    }

    /// The path of its module: `src/hl7/mod.rs` is `hl7`, `src/store/form.rs` is `store`, `form`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod").collect()
    }

    /// The lines of code that hold any of these words, as `path:line: word`.
    pub(crate) fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let mut hits = Vec::new();
        for (number, line) in (1..).zip(self.code.lines()) {
            hits.extend(words.iter().filter(|word| holds_word(line, word)).map(|word| format!("{}:{number}: `{word}`", self.path)));
        }
        hits
    }

    /// Every path in the code that starts at the top of the crate, as `(line, segments)`: `crate::care::fact::Fact` and `super::…` alike.
    pub(crate) fn crate_paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        for (number, line) in (1..).zip(self.code.lines()) {
            for (at, _) in line.match_indices("crate::").chain(line.match_indices("super::")) {
                let before = line.get(..at).unwrap_or_default();
                if before.ends_with("::") || before.ends_with('$') || before.ends_with(is_word) {
                    continue;
                }
                found.extend(self.resolve(line.get(at..).unwrap_or_default()).map(|path| (number, path)));
            }
        }
        found
    }

    /// The path written here, from the top of the crate; `None` when it stays below this module.
    fn resolve(&self, written: &str) -> Option<Vec<String>> {
        let end = written.find(|c| !is_word(c) && c != ':').unwrap_or(written.len());
        let mut segments = written.get(..end)?.split("::").peekable();
        let mut base: Vec<String> = if segments.peek() == Some(&"crate") {
            segments.next();
            Vec::new()
        } else {
            let mut base: Vec<String> = self.module().into_iter().map(str::to_owned).collect();
            while segments.peek() == Some(&"super") {
                segments.next();
                base.pop();
            }
            base
        };
        base.extend(segments.filter(|segment| !segment.is_empty()).map(str::to_owned));
        Some(base)
    }
}

/// Whether a path is one of a Rust file.
pub(crate) fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// The file up to its `mod tests`, which stands last.
fn before_tests(text: &str) -> &str {
    let end = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a line holds this text with no letter running into either end of it.
fn holds_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let glued_before = word.starts_with(is_word) && before.is_some_and(|c| is_word(c) || c == ':');
        let glued_behind = word.ends_with(is_word) && after.is_some_and(is_word);
        !glued_before && !glued_behind
    })
}

/// Takes comments away and texts out.
fn split(text: &str) -> (String, Vec<(usize, String)>) {
    let mut code = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (piece, kept, literal) = piece(rest, c, code.chars().next_back());
        if let Some(literal) = literal {
            literals.push((line, literal.to_owned()));
        }
        code.push_str(kept);
        let n_lines = piece.matches('\n').count();
        // Lines inside of what is dropped still count.
        code.extend(std::iter::repeat_n('\n', n_lines - kept.matches('\n').count()));
        line += n_lines;
        rest = rest.get(piece.len()..).unwrap_or_default();
    }
    (code, literals)
}

/// The next piece of a file: all of it, what of it is kept as code, and the text it holds.
fn piece(rest: &str, first: char, before: Option<char>) -> (&str, &str, Option<&str>) {
    let upto = |end: Option<usize>| rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
    if rest.starts_with("//") {
        return (upto(rest.find('\n')), "", None);
    }
    if rest.starts_with("/*") {
        return (upto(rest.find("*/").map(|end| end + 2)), "", None);
    }
    if first == '"' {
        let piece = upto(end_of_text(rest));
        return (piece, "\"\"", piece.get(1..piece.len().saturating_sub(1)));
    }
    if first == 'r' && !before.is_some_and(is_word) {
        let hashes = rest.chars().skip(1).take_while(|c| *c == '#').count();
        if rest.get(1 + hashes..).is_some_and(|after| after.starts_with('"')) {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = rest.get(hashes + 2..).unwrap_or_default();
            let length = body.find(&close).unwrap_or(body.len());
            return (upto(Some(hashes + 2 + length + close.len())), "\"\"", body.get(..length));
        }
    }
    if first == '\'' {
        // A character, or else a lifetime.
        let mut inner = rest.chars().skip(1);
        let length = match (inner.next(), inner.next()) {
            (Some('\\'), _) => rest.char_indices().skip(3).find(|(_, c)| *c == '\'').map(|(end, _)| end + 1),
            (Some(c), Some('\'')) => Some(2 + c.len_utf8()),
            _ => Some(1),
        };
        return (upto(length), "'", None);
    }
    let piece = upto(Some(first.len_utf8()));
    (piece, piece, None)
}

/// Where a text in quotes ends.
fn end_of_text(rest: &str) -> Option<usize> {
    let mut escaped = false;
    rest.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn source(path: &str, text: &str) -> Source {
        Source::parse(path, text.to_owned())
    }

    #[test]
    fn comments_texts_and_tests_are_no_code() {
        let text = "// crate::a\nlet x = \"crate::b \\\" crate::c\"; /* crate::d\n*/ let y = r#\"crate::e\"#; let c = '\"'; let q = '\\''; fn f<'a>() { crate::g::h }\n#[cfg(test)]\nmod tests { crate::i }";
        let source = source("src/store/form.rs", text);
        assert_eq!(source.crate_paths(), [(3, vec!["g".to_owned(), "h".to_owned()])]);
        assert_eq!(source.literals, [(2, "crate::b \\\" crate::c".to_owned()), (3, "crate::e".to_owned())]);
    }

    #[test]
    fn a_path_by_way_of_super_is_followed_to_the_top() {
        let source = source("src/store/form.rs", "use super::sql::X;\nuse super::super::care::Fact;\nuse crate::care::{a, b};");
        let paths: Vec<String> = source.crate_paths().into_iter().map(|(_, path)| path.join("::")).collect();
        assert_eq!(paths, ["store::sql::X", "care::Fact", "care"]);
    }

    #[test]
    fn a_word_is_not_found_inside_another() {
        let source = source("src/care/fold.rs", "my_tokio::x();\ncrate::tokio::y();\ntokio::spawn();\nstd::fs::read();");
        assert_eq!(source.lines_with(&["tokio", "std::fs"]), ["src/care/fold.rs:3: `tokio`", "src/care/fold.rs:4: `std::fs`"]);
    }
}

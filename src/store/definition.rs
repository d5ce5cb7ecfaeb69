//! The text of a CREATE statement, in words: what no pragma of SQLite's says of a table.

use std::ops::Range;

/// A word of a statement: a name, a keyword, a literal, or a mark of one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    text: String,
    /// It is a name or a text literal in quotes, which SQLite takes for a name where only a name can stand.
    quoted: bool,
    /// Where it stands in the statement.
    at: Range<usize>,
}

impl Word {
    /// Whether the word is this keyword, or this mark.
    pub(super) fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(keyword)
    }
}

/// Whether `sql` names `column`. Any text literal may be its name.
pub(super) fn names(sql: &str, column: &str) -> bool {
    words(sql).iter().any(|word| word.text.eq_ignore_ascii_case(column))
}

/// The collation that the definition of `column` in `sql`, a CREATE TABLE, names.
pub(super) fn collation(sql: &str, column: &str) -> Option<String> {
    let words = words(sql);
    let (mut depth, mut begins, mut of_it) = (0, false, false);
    for (index, word) in words.iter().enumerate() {
        depth += i32::from(word.is("(")) - i32::from(word.is(")"));
        if begins {
            of_it = word.text.eq_ignore_ascii_case(column);
        }
        begins = depth == 1 && (word.is("(") || word.is(","));
        if of_it && depth == 1 && word.is("COLLATE") {
            return words.get(index + 1).map(|name| name.text.clone());
        }
    }
    None
}

/// The expressions in `sql` that stand in parentheses behind `keyword`, with their parentheses.
pub(super) fn expressions<'s>(sql: &'s str, keyword: &str) -> Vec<&'s str> {
    let words = words(sql);
    let begins = |pair: &&[Word]| pair[0].is(keyword) && pair[1].is("(");
    words.windows(2).filter(begins).map(|pair| parenthesized(sql, &words, pair[1].at.start)).collect()
}

/// What stands in the parentheses that open at `start`, with these. `words` are those of `sql`.
fn parenthesized<'s>(sql: &'s str, words: &[Word], start: usize) -> &'s str {
    let mut depth = 0;
    let closes = |word: &&Word| {
        depth += i32::from(word.is("(")) - i32::from(word.is(")"));
        depth == 0
    };
    let end = words.iter().skip_while(|word| word.at.start < start).find(closes);
    &sql[start..end.map_or(sql.len(), |end| end.at.end)]
}

/// The words of `sql`, without comments.
pub(super) fn words(sql: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let start = sql.len() - rest.len();
        let end = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest[2..].find("*/").map_or(rest.len(), |end| end + 4),
            '"' | '\'' | '`' | '[' => {
                let (text, end) = quoted(rest, if first == '[' { ']' } else { first });
                words.push(Word { text, quoted: true, at: start..start + end });
                end
            }
            _ if first.is_ascii_whitespace() => 1,
            _ => {
                let end = rest.find(|char: char| !of_a_name(char)).unwrap_or(rest.len()).max(first.len_utf8());
                words.push(Word { text: rest[..end].to_owned(), quoted: false, at: start..start + end });
                end
            }
        };
        rest = &rest[end..];
    }
    words
}

/// As SQLite has it.
fn of_a_name(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == '$' || !char.is_ascii()
}

/// The content of the quotes with which `sql` begins, and where what follows them begins. A quote within is doubled.
fn quoted(sql: &str, quote: char) -> (String, usize) {
    let mut text = String::new();
    let mut chars = sql.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if char != quote {
            text.push(char);
        } else if quote != ']' && chars.next_if(|(_, next)| *next == quote).is_some() {
            text.push(quote);
        } else {
            return (text, at + 1);
        }
    }
    (text, sql.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_is_told_from_what_only_looks_like_it() {
        let has = |sql| words(sql).iter().any(|word| word.is("AUTOINCREMENT"));
        for with in [
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)",
            "CREATE TABLE t (id INTEGER PRIMARY KEY/**/autoincrement, b)",
            "CREATE TABLE \"a\"\"b\" (c DEFAULT 'it''s', [d'] TEXT, id INTEGER PRIMARY KEY --\nAutoIncrement)",
        ] {
            assert!(has(with), "{with}");
        }
        for without in [
            "CREATE TABLE t (id INTEGER PRIMARY KEY -- AUTOINCREMENT\n)",
            "CREATE TABLE t (id INTEGER PRIMARY KEY /* AUTOINCREMENT */)",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, \"AUTOINCREMENT\", `autoincrement` TEXT, [AUTOINCREMENT])",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a DEFAULT 'AUTOINCREMENT', no_autoincrement, autoincrementé)",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a DEFAULT '''AUTOINCREMENT')",
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a /* AUTOINCREMENT",
            "CREATE TABLE t (id INTEGER PRIMARY KEY /*/ AUTOINCREMENT */)",
        ] {
            assert!(!has(without), "{without}");
        }
    }

    #[test]
    fn an_expression_ends_where_its_parentheses_do() {
        let sql = "CREATE TABLE t (a CHECK (a > (1)), b AS (a || ')') STORED, check (b -- )
            in ('(')), \"CHECK\" (c))";
        assert_eq!(expressions(sql, "CHECK"), ["(a > (1))", "(b -- )\n            in ('('))"]);
        assert_eq!(expressions(sql, "AS"), ["(a || ')')"]);
        assert_eq!(expressions("CHECK (a", "CHECK"), ["(a"]);
        assert!(names("(x + \"A b\")", "a B") && names("'x'", "X") && !names("xx + y", "x"));
    }

    #[test]
    fn a_collation_is_that_of_its_column() {
        let sql =
            "CREATE TABLE t (a TEXT COLLATE \"my own\" NOT NULL, b CHECK (b COLLATE x > ''), [c d] collate nocase,
                   PRIMARY KEY (b COLLATE y), UNIQUE (e COLLATE z))";
        for (column, named) in [("A", Some("my own")), ("b", None), ("c d", Some("nocase")), ("e", None), ("t", None)] {
            assert_eq!(collation(sql, column).as_deref(), named, "{column}");
        }
    }

    #[test]
    fn every_character_is_part_of_a_word_or_between_two() {
        let of = |sql| words(sql).into_iter().map(|word| word.text).collect::<Vec<_>>();
        assert_eq!(
            of("a(b,c)<>1.5\t-x/é"),
            ["a", "(", "b", ",", "c", ")", "<", ">", "1", ".", "5", "-", "x", "/", "é"]
        );
        assert_eq!(of("'a''b' \"c\"\"d\"[e]]"), ["a'b", "c\"d", "e", "]"]);
        assert_eq!(of("'torn"), ["torn"]);
        assert_eq!(of(""), [""; 0]);
    }
}

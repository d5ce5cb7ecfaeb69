//! The bytes of text and blobs in a row, as SQL that adds them up.

use super::{Column, Table, quoted};

/// The first SQLite that has `octet_length`.
pub(super) const OCTET_LENGTH: i32 = 3_043_000;

/// A column whose values stand in the rows of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) column: String,
    /// The bytes of a value that is text or a blob, else 0, in SQL.
    pub(crate) bytes: String,
    /// A number is expected in it.
    integer: bool,
}

/// The bytes of text and blobs in the columns that are not read, in SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherBytes {
    /// Whether the columns that are read tell their own bytes. UTF-16 is read as UTF-8, and a computed column has none in the
    /// row: where they are not told, those of all columns are here.
    pub(crate) read_tell: bool,
    /// Those in columns that were not declared to hold integers.
    pub(crate) of_texts: String,
    /// Those in the others.
    pub(crate) of_integers: String,
    /// Whether there are any in these, by the values: quicker to tell than by the header of a row that is on one page.
    pub(crate) in_integers: String,
}

impl OtherBytes {
    /// By the header of the row alone, however large the row is.
    pub(crate) fn by_header(&self) -> String {
        format!("{} + {}", self.of_texts, self.of_integers)
    }
}

impl Table {
    /// The bytes of text and blobs in the columns that are none of `read`.
    pub(super) fn bytes_beside(&self, read: &[&str]) -> OtherBytes {
        let is_read = |column: &str| read.iter().any(|read| read.eq_ignore_ascii_case(column));
        let read_tell = !self.utf_16 && !self.columns.iter().any(|column| column.is_virtual && is_read(&column.name));
        let others = self.weights().into_iter().filter(|weight| !(read_tell && is_read(&weight.column)));
        let (integers, texts): (Vec<_>, Vec<_>) = others.partition(|weight| weight.integer);
        // Every text and every blob is greater than any number; `+` and BINARY keep it from being taken for one.
        let greater = |weight: &Weight| format!(" OR +{} COLLATE BINARY > {}", quoted(&weight.column), i64::MAX);
        let greater: String = integers.iter().map(greater).collect();
        let in_integers = format!("FALSE{greater}");
        OtherBytes { read_tell, of_texts: sum(&texts), of_integers: sum(&integers), in_integers }
    }

    /// The bytes of text and blobs in each column.
    ///
    /// `octet_length` and `typeof` read the header of the row alone, however large the value and whatever stands before it; a
    /// SQLite that is older than `octet_length` reads the value. A column that is declared as text holds no number.
    pub(super) fn weights(&self) -> Vec<Weight> {
        let columns = self.columns.iter().filter(|column| !(column.is_virtual || column.key && column.is("id")));
        let weight = |Column { name: column, kind, .. }: &Column| {
            let (name, kind) = (quoted(column), kind.to_ascii_uppercase());
            let bytes = if rusqlite::version_number() >= OCTET_LENGTH {
                format!("octet_length({name})")
            } else {
                format!("length(CAST({name} AS BLOB))")
            };
            let text = ["CHAR", "CLOB", "TEXT"].iter().any(|text| kind.contains(text)) && !kind.contains("INT");
            let bytes = if text {
                format!("ifnull({bytes}, 0)")
            } else {
                format!(
                    "CASE typeof({name}) WHEN 'integer' THEN 0 WHEN 'text' THEN {bytes} WHEN 'blob' THEN {bytes} ELSE 0 END"
                )
            };
            Weight { column: column.clone(), bytes, integer: kind.contains("INT") }
        };
        columns.map(weight).collect()
    }
}

/// The bytes of `weights` together, in SQL.
pub(super) fn sum(weights: &[Weight]) -> String {
    let weights: Vec<&str> = weights.iter().map(|weight| weight.bytes.as_str()).collect();
    if weights.is_empty() { "0".to_owned() } else { weights.join(" + ") }
}

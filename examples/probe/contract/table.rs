//! The questions, the expected answers, and the answers that came.

use std::fmt::Write;

use serde_json::Value;

use super::client::Reply;

/// Whether an answer is the expected one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Holds,
    Differs,
    /// Nothing relies on it: it is for information.
    Fact,
}

struct Row {
    what: String,
    /// Empty for a fact.
    expected: String,
    /// Without secrets.
    got: String,
    verdict: Verdict,
}

/// All rows, in the order in which they were asked.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Whether the service is as expected.
    ///
    /// # Errors
    /// A message that counts the rows that differ.
    pub(crate) fn conclude(&self) -> Result<(), String> {
        match self.rows.iter().filter(|row| row.verdict == Verdict::Differs).count() {
            0 => Ok(()),
            1 => Err("The cache service differs from what nix-cache relies on in 1 row.".to_owned()),
            rows => Err(format!("The cache service differs from what nix-cache relies on in {rows} rows.")),
        }
    }

    /// The table in Markdown, as a log and a job summary can show it.
    pub(crate) fn markdown(&self) -> String {
        let cell = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        let mut out = "| | what | expected | got |\n| --- | --- | --- | --- |\n".to_owned();
        for Row { what, expected, got, verdict } in &self.rows {
            let mark = match verdict {
                Verdict::Holds => "ok",
                Verdict::Differs => "**DIFFERS**",
                Verdict::Fact => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(out, "| {mark} | {} | {} | {} |", cell(what), cell(expected), cell(got));
        }
        out
    }

    pub(super) fn fact(&mut self, what: &str, got: &str) {
        self.push(what, String::new(), got.to_owned(), Verdict::Fact);
    }

    /// A row that holds when the answer has this status and, in its JSON or as blob storage's error code, this word.
    pub(super) fn status(&mut self, what: &str, reply: &Reply, status: u16, code: &str) {
        let holds = reply.status == status && (code.is_empty() || reply.code() == code);
        let expected = format!("{status} {code}").trim_end().to_owned();
        self.push(what, expected, reply.describe(), Self::verdict(holds));
    }

    /// A row that holds when a call was answered with 200 and a JSON that has these fields.
    pub(super) fn answer(&mut self, what: &str, reply: &Reply, fields: &Value) {
        let json = reply.json();
        let wanted = fields.as_object().into_iter().flatten();
        let holds = reply.status == 200 && wanted.into_iter().all(|(name, value)| json[name] == *value);
        self.push(what, format!("200 {fields}"), reply.describe(), Self::verdict(holds));
    }

    /// A row that holds or does not.
    pub(super) fn check(&mut self, what: &str, expected: &str, got: String, holds: bool) {
        self.push(what, expected.to_owned(), got, Self::verdict(holds));
    }

    fn verdict(holds: bool) -> Verdict {
        if holds { Verdict::Holds } else { Verdict::Differs }
    }

    fn push(&mut self, what: &str, expected: String, got: String, verdict: Verdict) {
        self.rows.push(Row { what: what.to_owned(), expected, got, verdict });
    }
}

//! What was asked, what we expect, and what came.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::client::Reply;

/// What a row says of our expectations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The service does what we rely on.
    Holds,
    /// It does something else.
    Differs,
    /// We rely on nothing here: it is for information.
    Fact,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// What was done.
    pub what: String,
    /// What we expect; empty for a fact.
    pub expected: String,
    /// What came, without secrets.
    pub got: String,
    /// Whether they fit.
    pub verdict: Verdict,
}

/// All rows, in the order in which they were played.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// The rows.
    pub rows: Vec<Row>,
}

impl Table {
    /// How many rows are not as we expect.
    #[must_use]
    pub fn differences(&self) -> usize {
        self.rows.iter().filter(|row| row.verdict == Verdict::Differs).count()
    }

    /// The table in Markdown, as a log and a job summary can show it.
    #[must_use]
    pub fn markdown(&self) -> String {
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
        tracing::info!("{what}: {got}");
        self.rows.push(Row { what: what.to_owned(), expected, got, verdict });
    }
}
